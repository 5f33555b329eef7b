//! TLS with the self-made certificate: curl as the sender, HTTP/1.1 and HTTP/2.

use std::process::Command;

use crate::{
    STRIPE,
    world::{Gateway, Provider, Upstream, provider::stripe_event},
};

#[tokio::test]
async fn curl_speaks_both_versions_over_tls() {
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let text = format!(
        "version: 1\nserver: {{ host: localhost, listen: \"127.0.0.1:0\" }}\ntls: {{ mode: internal }}\n\
         storage: {{ dir: \"{path}\", min_free: 1MiB }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
         telemetry: {{ log: {{ format: json }} }}\n\
         sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\" }} }}\n\
         routes: [ {{ source: stripe, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    );
    let gateway = Gateway::start_whole(dir, &text).await;
    let port = gateway.address.port();
    for (n, version) in ["--http1.1", "--http2"].into_iter().enumerate() {
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let headers = Provider::Stripe(STRIPE).sign("", "", &body);
        let file = gateway.dir().join("body");
        std::fs::write(&file, &body).unwrap();
        let out = tokio::task::spawn_blocking({
            let ca = gateway.dir().join("tls/ca.pem");
            let url = format!("https://localhost:{port}/stripe");
            let header = format!("{}: {}", headers[0].0, headers[0].1);
            move || {
                Command::new("curl")
                    .args([
                        "-sS",
                        "--max-time",
                        "10",
                        "-w",
                        "%{http_code} %{http_version}",
                        "-o",
                        "/dev/null",
                        version,
                    ])
                    .arg("--cacert")
                    .arg(ca)
                    .args(["-H", &header, "-H", "content-type: application/json", "--data-binary"])
                    .arg(format!("@{}", file.display()))
                    .arg(url)
                    .output()
                    .unwrap()
            }
        })
        .await
        .unwrap();
        let expected = if n == 0 { "200 1.1" } else { "200 2" };
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            expected,
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    assert_eq!(app.count(), 2);
    assert_eq!(app.received()[0].header("x-forwarded-proto"), "https");
}
