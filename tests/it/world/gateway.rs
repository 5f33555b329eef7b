//! The real binary, started on free ports, spoken to over sockets.

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use super::{PATIENCE, provider::Headers};

/// An answer of the gateway.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn outcome(&self) -> &str {
        self.header("webhook-outcome")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// A running gateway; ended when dropped.
#[derive(Debug)]
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub file: PathBuf,
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// Held by whoever reads its log, line by line.
    reading: Arc<tokio::sync::Mutex<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
    dir: Option<tempfile::TempDir>,
}

/// Processor time of a process, from `/proc`.
pub fn cpu(pid: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = text.rsplit_once(") ").unwrap().1;
    let ticks = after_name.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The binary under test; long runs measure another build of it.
pub fn binary() -> Command {
    let built = env!("CARGO_BIN_EXE_gatepost").into();
    let mut command = Command::new(std::env::var_os("GATEPOST_BINARY").unwrap_or(built));
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command
}

/// A configuration around `rest`: plain HTTP on a free port, state in `dir`.
pub fn yaml(dir: &Path, rest: &str) -> String {
    let dir = dir.display();
    format!(
        "version: 1\nserver: {{ host: hooks.example.com, listen: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1/32], drain_timeout: 5s }}\n\
         tls: {{ mode: none }}\nstorage: {{ dir: \"{dir}\", min_free: 1MiB }}\n\
         admin: {{ listen: \"127.0.0.1:0\" }}\ntelemetry: {{ log: {{ level: debug, format: json }} }}\n{rest}"
    )
}

impl Gateway {
    /// Starts a gateway with `rest` added to the ground configuration; `{dir}` in it is the state directory.
    pub async fn start(rest: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), rest).await
    }

    /// The same on a directory that was used before.
    pub async fn start_in(dir: tempfile::TempDir, rest: &str) -> Self {
        let text = yaml(dir.path(), &rest.replace("{dir}", &dir.path().display().to_string()));
        Self::start_whole(dir, &text).await
    }

    /// Starts a gateway on a whole configuration.
    pub async fn start_whole(dir: tempfile::TempDir, text: &str) -> Self {
        Self::start_with(dir, text, &[]).await
    }

    /// The same, with these variables in its environment.
    pub async fn start_with(dir: tempfile::TempDir, text: &str, env: &[(&str, &str)]) -> Self {
        let started = Self::try_start(dir, text, env).await;
        started.unwrap_or_else(|(_, log)| panic!("the gateway did not start:\n{log}"))
    }

    /// The same, for one that may end before it is ready: then its directory and its log come back.
    pub async fn try_start(
        dir: tempfile::TempDir,
        text: &str,
        env: &[(&str, &str)],
    ) -> Result<Self, (tempfile::TempDir, String)> {
        let mut command = binary();
        command.envs(env.iter().copied());
        Self::spawn(command, dir, text).await
    }

    /// The same by a command line that ends with being replaced by the gateway.
    pub async fn start_under(wrapper: &[String], dir: tempfile::TempDir, text: &str) -> Self {
        let gateway = binary();
        let mut command = Command::new(&wrapper[0]);
        command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        command.args(&wrapper[1..]).arg(gateway.get_program());
        let started = Self::spawn(command, dir, text).await;
        started.unwrap_or_else(|(_, log)| panic!("the gateway did not start:\n{log}"))
    }

    /// The same on a socket that listens already, as systemd hands it over: connections wait in it while no gateway runs.
    pub async fn start_on(listener: &TcpListener, dir: tempfile::TempDir, text: &str) -> Self {
        let program = binary();
        let mut shell = Command::new("sh");
        shell.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        let become_it = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        shell.args(["-c", become_it]).arg(program.get_program());
        shell.stdin(OwnedFd::from(listener.try_clone().unwrap()));
        let started = Self::spawn(shell, dir, text).await;
        started.unwrap_or_else(|(_, log)| panic!("the gateway did not start:\n{log}"))
    }

    /// The same by any command that becomes the gateway once it is given its arguments.
    pub async fn spawn(
        mut command: Command,
        dir: tempfile::TempDir,
        text: &str,
    ) -> Result<Self, (tempfile::TempDir, String)> {
        let file = dir.path().join("gatepost.yaml");
        write_private(&file, text);
        let mut child = command
            .arg("-c")
            .arg(&file)
            .arg("run")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (ready, started) = tokio::sync::oneshot::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reading = Arc::default();
        let (lines, each) = (Arc::clone(&log), Arc::clone(&reading));
        std::thread::spawn(move || read_log(stderr, &lines, &each, ready));
        let started = tokio::time::timeout(PATIENCE, started).await;
        let Ok(Ok((address, admin))) = started else {
            let _ = child.kill();
            let _ = child.wait();
            return Err((dir, log.lock().unwrap().join("\n")));
        };
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self {
            address,
            admin,
            file,
            child: Mutex::new(child),
            log,
            reading,
            client,
            dir: Some(dir),
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS` is resident now, `VmHWM` was so at most.
    pub fn memory(&self, line: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        cpu(&self.pid().to_string())
    }

    /// How many files and sockets it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Nobody reads its log as long as this lives.
    pub async fn unread(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.reading).lock_owned().await
    }

    /// Posts to `path`.
    pub async fn post(&self, path: &str, headers: &Headers, body: &[u8]) -> Answer {
        self.request("POST", path, headers, body).await
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &Headers,
        body: &[u8],
    ) -> Answer {
        self.try_request(method, path, headers, body).await.unwrap()
    }

    /// A request that may get no answer.
    pub async fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &Headers,
        body: &[u8],
    ) -> Result<Answer, String> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !headers.iter().any(|(name, _)| name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::from(body.to_vec())).unwrap();
        self.ask(request).await
    }

    /// A request to the admin address.
    pub async fn admin(&self, method: &str, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.admin));
        let request = request.header("gatepost-admin", "1").body(Full::default()).unwrap();
        self.ask(request).await.unwrap()
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let work = async {
            let response = self.client.request(request).await.map_err(|e| format!("{e:?}"))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(PATIENCE, work).await.map_err(|_| "no answer".to_owned())?
    }

    /// The value of a series, by its whole name with labels.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = String::from_utf8(self.admin("GET", "/metrics").await.body.to_vec()).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no series {series} in\n{text}"))
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let done = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(done.success());
    }

    /// How it ended, if it did.
    pub fn has_ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Its directory, once it has ended.
    pub fn leave(mut self) -> tempfile::TempDir {
        self.dir.take().unwrap()
    }

    /// Waits for the process to end.
    pub async fn ended(&self) -> ExitStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.has_ended() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it in order and keeps its directory.
    pub async fn stop(mut self) -> (ExitStatus, tempfile::TempDir) {
        // Idle connections would be waited for, in case something is on its way.
        self.client = Client::builder(TokioExecutor::new()).build_http();
        self.signal("TERM");
        (self.ended().await, self.dir.take().unwrap())
    }

    /// Ends it at once, as a crash would, and keeps its directory.
    pub async fn kill(self) -> tempfile::TempDir {
        let _ = self.child.lock().unwrap().kill(); // it may have ended by itself
        self.ended().await;
        self.leave()
    }

    /// Runs a command of the same binary on the same configuration.
    pub fn cli(&self, args: &[&str]) -> std::process::Output {
        binary().arg("-c").arg(&self.file).args(args).output().unwrap()
    }

    /// The audit records so far, without those about the process itself.
    pub fn records(&self) -> Vec<Value> {
        records(&self.dir().join("audit"))
    }
}

/// Reads every record of an audit directory, closed or live.
pub fn records(dir: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let segments = files.iter().filter(|path| path.extension().is_some_and(|e| e == "ndjson"));
    let text: String =
        segments.map(|path| String::from_utf8(std::fs::read(path).unwrap()).unwrap()).collect();
    let lines = text.lines().map(|line| line.trim_matches('\0')).filter(|line| !line.is_empty());
    let all = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|record| record["kind"] != "control").collect()
}

/// Writes a file that only its owner reads: secrets may be in it.
pub fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn read_log(
    stderr: impl std::io::BufRead,
    lines: &Mutex<Vec<String>>,
    reading: &tokio::sync::Mutex<()>,
    ready: tokio::sync::oneshot::Sender<(SocketAddr, SocketAddr)>,
) {
    let mut ready = Some(ready);
    for line in stderr.lines().map_while(Result::ok) {
        let _each = reading.blocking_lock();
        if let Ok(json) = serde_json::from_str::<Value>(&line)
            && json["msg"] == "ready"
            && let Some(ready) = ready.take()
        {
            let listening = json["listening"].as_str().unwrap().trim_matches(['[', ']']).to_owned();
            let first = listening.split(", ").next().unwrap().parse().unwrap();
            let _ = ready.send((first, json["admin"].as_str().unwrap().parse().unwrap()));
        }
        lines.lock().unwrap().push(line);
    }
}

/// Ends a process when it is dropped.
pub struct Spawned(pub Child);

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            let tail = log.len().saturating_sub(40);
            eprintln!("the gateway's last words:\n{}", log[tail..].join("\n"));
        }
    }
}
