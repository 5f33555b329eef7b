//! Real Redis processes on free ports of the loopback, stopped when they are dropped.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a process may take to come up.
const UP_TIMEOUT: Duration = Duration::from_secs(20);

/// A process that listens on a port.
pub(crate) struct Server {
    /// The command line that ends with being replaced by it, and its program.
    program: Vec<String>,
    pub(crate) port: u16,
    dir: TempDir,
    child: Option<Child>,
}

/// A port that was free a moment ago, and was given to nobody else of this process. It is below those that the kernel gives to
/// connections that go out: none of these takes it before the server does.
pub(crate) fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..32_768;
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(97)));
    loop {
        let port = PORTS.start + NEXT.fetch_add(1, Relaxed) % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Calls `done` until it says yes: another process cannot be awaited, only asked.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + UP_TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen within {UP_TIMEOUT:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    /// A `redis-server` with these lines in its configuration.
    pub(crate) fn start(lines: &[&str]) -> Self {
        let mut server = Self::prepared(lines);
        server.up();
        server
    }

    /// The same by a command line that ends with being replaced by it.
    pub(crate) fn start_under(wrapper: &[String], lines: &[&str]) -> Self {
        let mut server = Self::prepared(lines);
        server.program.splice(0..0, wrapper.iter().cloned());
        server.up();
        server
    }

    /// As `start`, but not running yet.
    pub(crate) fn prepared(lines: &[&str]) -> Self {
        let port = free_port();
        let listen = format!("port {port}");
        Self::new("redis-server", port, &[&[listen.as_str()], lines].concat())
    }

    fn new(program: &'static str, port: u16, lines: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut text = format!("bind 127.0.0.1\ndir {}\n", dir.path().display());
        if program == "redis-server" {
            text += "save \"\"\nappendonly no\n";
        }
        text += &lines.join("\n");
        fs::write(dir.path().join("conf"), text + "\n").expect("a configuration");
        Self { program: vec![program.to_owned()], port, dir, child: None }
    }

    /// Starts it (again), on the same port.
    pub(crate) fn up(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let child = Command::new(&self.program[0])
            .args(&self.program[1..])
            .arg(self.dir.path().join("conf"))
            .stdin(Stdio::null())
            .stdout(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!(
                "{:?} cannot be run ({error}): apt-get install redis-server redis-sentinel",
                self.program
            )
        }));
        wait_for(&self.program.join(" "), || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Kills it, without a chance to do anything.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// Runs `redis-cli` on it.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        cli(&[&["-p", &self.port.to_string()], arguments].concat())
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `redis-cli`.
pub(crate) fn cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(arguments).output();
    let output = output.expect("redis-cli can be run: apt-get install redis-server");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A server that speaks TLS only, and the file of its CA.
pub(crate) fn tls() -> (Server, PathBuf) {
    let mut server = Server::new("redis-server", free_port(), &[]);
    let ca = certificates(server.dir.path());
    let path = |name: &str| server.path(name).display().to_string();
    let lines = format!(
        "port 0\ntls-port {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n",
        server.port,
        path("cert.pem"),
        path("key.pem"),
        path("ca.pem"),
    );
    let conf = server.path("conf");
    let text = fs::read_to_string(&conf).expect("a configuration");
    fs::write(conf, text + &lines).expect("a configuration");
    server.up();
    (server, ca)
}

/// Writes a CA, and a certificate for 127.0.0.1 with its key.
fn certificates(dir: &Path) -> PathBuf {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let root = authority.self_signed(&authority_key).expect("a root").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate").pem();
    for (name, pem) in [("ca.pem", root), ("cert.pem", leaf), ("key.pem", key.serialize_pem())] {
        fs::write(dir.join(name), pem).expect("a file");
    }
    dir.join("ca.pem")
}

/// A user `gate` who may do what Gatepost does and nothing else, as a line of a configuration.
pub(crate) const USER: &str = "user gate on >s3cr3t-p4ss ~gatepost:* -@all \
                               +evalsha +eval +get +set +del +pttl +info +cluster|slots +asking";

/// A cluster of three masters, with that user.
pub(crate) fn cluster() -> Vec<Server> {
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            let bus = format!("cluster-port {}", free_port());
            Server::start(&["cluster-enabled yes", "cluster-node-timeout 2000", &bus, USER])
        })
        .collect();
    let addresses: Vec<_> = nodes.iter().map(Server::address).collect();
    let create = ["--cluster", "create", &addresses[0], &addresses[1], &addresses[2]];
    let made = cli(&[&create[..], &["--cluster-yes"]].concat());
    assert!(made.contains("All 16384 slots covered"), "{made}");
    for node in &nodes {
        wait_for("the cluster", || node.cli(&["cluster", "info"]).contains("cluster_state:ok"));
    }
    nodes
}

/// Moves a key of a cluster to another server and not its slot: the old server says ASK, and where to.
pub(crate) fn half_move(nodes: &[Server], key: &str) {
    let is_at = |node: &&Server| !node.cli(&["get", key]).starts_with("MOVED");
    let from = nodes.iter().find(is_at).expect("one of them has the slot");
    let to = nodes.iter().find(|node| node.port != from.port).expect("there are others");
    let (from_id, to_id) = (from.cli(&["cluster", "myid"]), to.cli(&["cluster", "myid"]));
    let slot = from.cli(&["cluster", "keyslot", key]);
    assert_eq!(to.cli(&["cluster", "setslot", &slot, "importing", &from_id]), "OK");
    assert_eq!(from.cli(&["cluster", "setslot", &slot, "migrating", &to_id]), "OK");
    let moved = from.cli(&["migrate", "127.0.0.1", &to.port.to_string(), key, "0", "5000"]);
    assert!(["OK", "NOKEY"].contains(&&*moved), "{moved}");
}

/// A master, its replica, both with that user, and a sentinel that watches them as `main`.
pub(crate) fn sentinel() -> (Server, Server, Server) {
    let master = Server::start(&[USER]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", master.port), USER]);
    wait_for("replication", || master.cli(&["info", "replication"]).contains("state=online"));
    let port = free_port();
    let lines = [
        format!("port {port}"),
        format!("sentinel monitor main 127.0.0.1 {} 1", master.port),
        "sentinel down-after-milliseconds main 500".to_owned(),
        "sentinel failover-timeout main 2000".to_owned(),
    ];
    let mut sentinel = Server::new("redis-sentinel", port, &lines.each_ref().map(String::as_str));
    sentinel.up();
    wait_for("discovery", || sentinel.cli(&["sentinel", "replicas", "main"]).contains("127.0.0.1"));
    (master, replica, sentinel)
}
