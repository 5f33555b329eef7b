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
    "adyen-platform" "airtable" "alchemy" "anthropic" "asana" "attio" "auth0" "authorize-net"
    "bigcommerce" "bitbucket" "brex" "cal-com" "calendly" "chargebee" "checkout-com" "circleci"
    "clerk" "clickup" "cloudflare-notifications" "cloudflare-stream" "coinbase-cdp"
    "coinbase-commerce" "customer-io" "dropbox" "dwolla" "elevenlabs" "expo" "fintoc" "github"
    "gitlab" "gocardless" "google-channel" "gusto" "help-scout" "heroku" "intercom" "intuit" "jira"
    "launchdarkly" "lemonsqueezy" "line" "linear" "liveblocks" "loops" "meta" "modern-treasury"
    "moneybird" "mux" "notion" "nylas" "okta" "openai" "paddle" "pagerduty" "paystack" "polar"
    "postmark" "qonto" "qonto-onboarding" "ramp" "razorpay" "recall-ai" "render" "replicate"
    "resend" "retell" "revolut" "sanity" "segment" "sentry" "shopify" "slack" "square"
    "standard-webhooks" "stripe" "supabase-auth" "svix" "tally" "telegram" "threesixtylearning"
    "twitch" "typeform" "vercel" "webex" "webflow" "whereby" "workos" "xendit" "xero" "zendesk"
    "zoom"
}
