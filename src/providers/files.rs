//! The files beside this one, by name. A test compares the list with the folder.

use super::File;

macro_rules! files {
    ($($name:literal)*) => {
        /// All preset files.
        pub(super) static FILES: [File; [$($name),*].len()] =
            [$(File::new($name, include_str!(concat!($name, ".yaml")))),*];
    };
}

files! {
    "adyen" "adyen-platform" "airtable" "alchemy" "anthropic" "asana" "attio" "auth0"
    "authorize-net" "azure-event-grid" "bigcommerce" "bitbucket" "box" "braintree" "brex"
    "buildkite" "cal-com" "calendly" "chargebee" "checkout-com" "circleci" "clerk" "clickup"
    "cloudevents" "cloudflare-notifications" "cloudflare-stream" "coinbase-cdp" "coinbase-commerce"
    "contentful" "customer-io" "docusign" "dropbox" "dropbox-sign" "dwolla" "easypost" "elevenlabs"
    "expo" "figma" "fintoc" "flutterwave" "front" "github" "gitlab" "gocardless" "google-channel"
    "gusto" "help-scout" "heroku" "hubspot" "intercom" "intuit" "jira" "klaviyo" "launchdarkly"
    "lemonsqueezy" "line" "linear" "linkedin" "liveblocks" "loops" "mailgun" "mandrill" "meta"
    "microsoft-graph" "modern-treasury" "mollie" "moneybird" "mux" "notion" "nylas" "okta" "openai"
    "paddle" "pagerduty" "paystack" "persona" "polar" "postmark" "pusher" "qonto" "qonto-onboarding"
    "ramp" "razorpay" "recall-ai" "recurly" "render" "replicate" "resend" "retell" "revolut"
    "sanity" "segment" "sentry" "shopify" "slack" "smartsheet" "square" "standard-webhooks" "strava"
    "stripe" "supabase-auth" "svix" "tabapay" "tally" "telegram" "threesixtylearning" "trello"
    "twilio" "twitch" "typeform" "vercel" "webex" "webflow" "websub" "whereby" "woocommerce"
    "workos" "x-twitter" "xendit" "xero" "youtube" "zendesk" "zoom"
}
