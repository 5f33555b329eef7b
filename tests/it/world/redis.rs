//! A real Redis of our own.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use super::eventually;

/// A Redis server on a free port; ended when dropped.
#[derive(Debug)]
pub struct RedisServer {
    pub address: SocketAddr,
    child: Child,
    _dir: tempfile::TempDir,
}

impl RedisServer {
    /// Starts one with `noeviction`, and `arguments` besides.
    pub async fn start(arguments: &[&str]) -> Self {
        let address = super::upstream::dead_address().await;
        Self::start_at(address, arguments).await
    }

    /// The same at a known address.
    pub async fn start_at(address: SocketAddr, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--maxmemory-policy", "noeviction", "--dir"])
            .arg(dir.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (tests/setup does that)");
        let server = Self { address, child, _dir: dir };
        eventually("redis listens", || async {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        server
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Runs a command by redis-cli and returns what it prints.
    pub fn cli(&self, args: &[&str]) -> String {
        let out = Command::new("redis-cli")
            .args(["-p", &self.address.port().to_string()])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill()); // it may have ended by itself
        drop(self.child.wait());
    }
}
