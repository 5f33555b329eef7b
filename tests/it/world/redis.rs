//! A real Redis of our own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
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
        eventually("redis listens", || async { TcpStream::connect(address).await.is_ok() }).await;
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

    /// How often it was told what, scripts' own commands included; but for what a connection begins with and is probed by, and
    /// what `redis-cli` says by itself.
    pub fn commands(&self) -> BTreeMap<String, u64> {
        let stats = self.cli(&["info", "commandstats"]);
        let calls = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        let mut commands: BTreeMap<String, u64> = stats.lines().filter_map(calls).collect();
        let of_a_connection = ["command", "client", "hello", "info", "ping"];
        commands.retain(|name, _| !of_a_connection.iter().any(|begins| name.starts_with(begins)));
        commands
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.child.kill()); // it may have ended by itself
        drop(self.child.wait());
    }
}

/// Every command that Redis is sent, by its own account.
#[derive(Debug)]
pub struct Monitor {
    lines: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Monitor {
    pub async fn of(redis: &RedisServer) -> Self {
        let mut stream = TcpStream::connect(redis.address).await.unwrap();
        stream.write_all(b"MONITOR\r\n").await.unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (mut task, heard) = (JoinSet::new(), Arc::clone(&lines));
        task.spawn(async move {
            let mut reader = BufReader::new(stream).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                heard.lock().unwrap().push(line);
            }
        });
        let monitor = Self { lines, _task: task };
        eventually("Redis tells what it does", || async {
            !monitor.lines.lock().unwrap().is_empty()
        })
        .await;
        monitor
    }

    /// What was heard so far; what is not there yet was not sent before `marker` was.
    pub async fn upto(&self, redis: &RedisServer, marker: &str) -> Vec<String> {
        redis.cli(&["echo", marker]);
        let marked = |line: &String| line.contains(marker);
        eventually("the marker is heard", || async {
            self.lines.lock().unwrap().iter().any(marked)
        })
        .await;
        let mut lines = self.lines.lock().unwrap();
        let at = lines.iter().position(marked).unwrap();
        let heard = lines.drain(..=at).collect::<Vec<_>>();
        // `redis-cli` looks around before it does what it is told.
        heard[..at].iter().filter(|line| !line.contains("\"COMMAND\"")).cloned().collect()
    }
}

/// Names of the commands, but for those that a connection begins with or is probed by.
pub fn events(lines: &[String]) -> Vec<&str> {
    let name = |line: &'_ str| line.split('"').nth(1).map(str::to_owned);
    let own = ["INFO", "HELLO", "CLIENT", "AUTH", "SELECT", "PING"];
    let is_own =
        |line: &&String| name(line).is_none_or(|name| own.contains(&name.to_uppercase().as_str()));
    lines.iter().filter(|line| !is_own(line)).map(String::as_str).collect()
}
