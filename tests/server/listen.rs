//! Sockets that we open, and sockets that somebody else opened.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::Command,
};

use gatepost::server::{self, ListenError};

fn listen(address: &str, workers: usize) -> Result<Vec<Vec<TcpListener>>, ListenError> {
    server::listen(&[address.parse().unwrap()], workers)
}

fn at(workers: &[Vec<TcpListener>]) -> SocketAddr {
    workers[0][0].local_addr().unwrap()
}

#[test]
fn a_port_in_use_is_said_so_even_if_its_user_would_share_it() {
    for workers in [1, 2] {
        let taken = listen("127.0.0.1:0", workers).unwrap();
        let error = server::listen(&[at(&taken)], workers).unwrap_err();
        assert!(matches!(error, ListenError::InUse(a) if a == at(&taken)), "{error}");
        assert!(error.to_string().contains("in use"));
    }
}

#[test]
fn each_worker_has_a_socket_at_the_same_address() {
    let workers = listen("127.0.0.1:0", 3).unwrap();
    assert_eq!(workers.len(), 3);
    for listeners in &workers {
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].local_addr().unwrap(), at(&workers));
    }
}

#[test]
fn somebody_elses_address_is_said_so() {
    let error = listen("192.0.2.1:0", 1).unwrap_err();
    assert!(matches!(error, ListenError::NotOurs(_)), "{error}");
}

#[test]
fn a_low_port_names_three_ways_out() {
    let text = ListenError::Denied("0.0.0.0:443".parse().unwrap()).to_string();
    for way in ["socket unit", "setcap", "8443"] {
        assert!(text.contains(way), "{text}");
    }
}

#[test]
fn v4_and_v6_share_a_port_only_by_two_sockets() {
    let port = at(&listen("0.0.0.0:0", 1).unwrap()).port();
    let both = [SocketAddr::from(([0_u16; 8], port)), SocketAddr::from(([0_u8; 4], port))];
    let workers = server::listen(&both, 1).unwrap();
    assert_eq!(workers[0].len(), 2);
}

#[tokio::test]
async fn one_v6_socket_takes_v4_too() {
    let listener = listen("[::]:0", 1).unwrap().remove(0).remove(0);
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (accepted, from) = listener.accept().await.unwrap();
    assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
    assert!(accepted.nodelay().unwrap(), "inherited from the listening socket");
}

const ADDRESS: &str = "GATEPOST_TEST_ADDRESS";

/// Plays systemd: a child of the same test gets a listening socket as descriptor 3, and must use it instead of binding.
#[test]
fn handed_over_sockets_are_used() {
    if let Ok(address) = std::env::var(ADDRESS) {
        let workers = server::listen(&["192.0.2.1:1".parse().unwrap()], 2).unwrap();
        assert_eq!(workers.len(), 2);
        for listeners in workers {
            assert_eq!(listeners.len(), 1);
            assert_eq!(listeners[0].local_addr().unwrap().to_string(), address);
        }
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
