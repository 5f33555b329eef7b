//! Sockets that somebody else opened.

use std::{net::TcpListener, os::fd::OwnedFd, process::Command};

use gatepost::server;

const ADDRESS: &str = "GATEPOST_TEST_ADDRESS";

/// Plays systemd: a child of the same test gets a listening socket as descriptor 3, and must use it instead of binding.
#[tokio::test]
async fn handed_over_sockets_are_used() {
    if let Ok(address) = std::env::var(ADDRESS) {
        let listeners = server::listen(&["192.0.2.1:1".parse().unwrap()]).unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].local_addr().unwrap().to_string(), address);
        return;
    }
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = |fd: OwnedFd| {
        Command::new("sh")
            .arg("-c")
            .arg("exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --exact listen::handed_over_sockets_are_used")
            .arg(std::env::current_exe().unwrap())
            .env(ADDRESS, socket.local_addr().unwrap().to_string())
            .stdin(fd)
            .output()
            .unwrap()
    };
    let output = child(socket.try_clone().unwrap().into());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let file = std::fs::File::open("/dev/null").unwrap();
    let output = child(file.into());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("Inherited(1, 1,"), "{said}");
}
