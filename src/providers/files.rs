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
    "adobe-io" "adyen" "adyen-platform" "airtable" "alchemy" "alexa" "anthropic" "apple-app-store"
    "asana" "atlassian-connect" "attio" "auth0" "authorize-net" "aws-sns" "azure-event-grid"
    "bigcommerce" "binance-pay" "bitbucket" "box" "braintree" "brex" "bridge" "buildkite" "cal-com"
    "calendly" "chargebee" "checkout-com" "chip" "circle" "circleci" "clerk" "clickup" "cloudevents"
    "cloudflare-notifications" "cloudflare-stream" "coinbase-cdp" "coinbase-commerce" "contentful"
    "customer-io" "discord" "docusign" "dropbox" "dropbox-sign" "dwolla" "dyte" "easypost" "ebay"
    "elevenlabs" "expo" "figma" "fintoc" "fireblocks" "fireblocks-legacy" "flutterwave" "front"
    "fusionauth" "github" "github-secret-scanning" "gitlab" "gocardless" "google-channel"
    "google-chat" "google-pubsub" "gusto" "help-scout" "heroku" "http-message-signatures" "hubspot"
    "integrated-finance" "intercom" "intuit" "jira" "kinde" "klaviyo" "launchdarkly" "lemonsqueezy"
    "line" "linear" "linkedin" "liveblocks" "loops" "mailchimp" "mailgun" "mandrill" "messagebird"
    "meta" "microsoft-graph" "modern-treasury" "mollie" "monday" "moneybird" "mux" "netlify"
    "notion" "nylas" "okta" "openai" "paddle" "pagerduty" "paypal" "paystack" "persona" "plaid"
    "polar" "postmark" "pusher" "qonto" "qonto-onboarding" "ramp" "razorpay" "recall-ai" "recurly"
    "render" "replicate" "resend" "retell" "revolut" "sanity" "segment" "sendgrid" "sentry"
    "shopify" "slack" "smartsheet" "square" "ssf" "standard-webhooks" "standard-webhooks-v1a"
    "stark-bank" "strava" "stripe" "supabase-auth" "svix" "tabapay" "tally" "telegram" "telnyx"
    "threesixtylearning" "trello" "truelayer" "twilio" "twitch" "typeform" "vercel" "viva" "vonage"
    "webex" "webflow" "websub" "wechat-pay" "whereby" "wise" "woocommerce" "workos" "x-twitter"
    "xendit" "xero" "youtube" "zendesk" "zoom"
}
