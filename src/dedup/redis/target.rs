//! Where Redis is: one server, a master that sentinels name, or a cluster; with or without TLS.

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode,
    aio::MultiplexedConnection,
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};

use super::{RedisSettings, StoreError};

/// Commands that wait to be written to the connection.
const WRITE_QUEUE: usize = 1024;

pub(super) struct Target {
    kind: Kind,
    /// For people; without credentials.
    pub(super) shown: String,
}

enum Kind {
    Single(Box<Client>),
    Sentinel(Box<Sentinels>),
    Cluster(Box<ClusterClient>),
}

/// Sentinels and the master that they watch.
struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    master: String,
    settings: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
}

/// A connection that many use at once.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A url, taken apart.
struct Url<'a> {
    scheme: &'a str,
    tls: bool,
    hosts: Vec<&'a str>,
    path: &'a str,
}

impl Target {
    /// Reads the settings; nothing is connected yet.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        let url = Url::parse(&settings.url)?;
        let shown = settings.url.clone();
        let tls = tls(settings, &url)?;
        let kind = match url.scheme.split_once('+') {
            None => single(settings, tls),
            Some((_, "sentinel")) => sentinels(settings, &url, tls),
            Some((_, "cluster")) => cluster(settings, &url, tls),
            Some(_) => {
                Err(StoreError("the scheme is none of redis, rediss, …+sentinel, …+cluster".into()))
            }
        };
        let kind = kind.map_err(|StoreError(error)| StoreError(format!("{shown}: {error}")))?;
        Ok(Self { kind, shown })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Connects. The caller bounds the time; commands are bounded by theirs.
    pub(super) async fn open(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WRITE_QUEUE);
        match &self.kind {
            Kind::Single(client) => {
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await.map(Connection::Single)
            }
            Kind::Sentinel(sentinels) => sentinels.open(&config).await.map(Connection::Single),
            Kind::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

impl Sentinels {
    async fn open(&self, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let (addresses, master) = (self.addresses.clone(), &self.master);
        let mut builder =
            SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
                .set_client_to_redis_db(self.settings.db())
                .set_client_to_redis_tcp_settings(tcp());
        if let Some(username) = self.settings.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = self.settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(tls) = &self.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(tls.clone())
                .set_client_to_sentinel_certificates(tls.clone());
        }
        builder.build()?.get_async_connection_with_config(config).await
    }
}

impl<'a> Url<'a> {
    /// `scheme://host[:port][,host…][/path]`. Nothing after it: `#insecure` would switch TLS off in effect. Nor credentials
    /// in it: they would be shown.
    fn parse(url: &'a str) -> Result<Self, StoreError> {
        if url.contains(['@', '#']) {
            return Err(StoreError("the url of Redis has more than scheme, hosts and path".into()));
        }
        let wrong = || StoreError(format!("{url} is not the url of a Redis"));
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.is_empty() {
            return Err(wrong());
        }
        let hosts = hosts.split(',').collect();
        Ok(Self { scheme, tls: scheme.starts_with("rediss"), hosts, path })
    }

    /// The hosts as nodes of their own.
    fn nodes(&self, settings: &RedisSettings) -> Result<Vec<ConnectionInfo>, StoreError> {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let node = |host| connection_info(settings, &format!("{scheme}://{host}"));
        self.hosts.iter().map(node).collect()
    }
}

fn single(settings: &RedisSettings, tls: Option<TlsCertificates>) -> Result<Kind, StoreError> {
    let node = connection_info(settings, &settings.url)?;
    let client = match tls {
        Some(tls) => Client::build_with_tls(node, tls),
        None => Client::open(node),
    };
    Ok(Kind::Single(Box::new(client.map_err(wrong)?)))
}

fn sentinels(
    settings: &RedisSettings,
    url: &Url<'_>,
    tls: Option<TlsCertificates>,
) -> Result<Kind, StoreError> {
    let (master, db) = url.path.split_once('/').unwrap_or((url.path, "0"));
    let db = db.parse().map_err(|_| StoreError("the database is not a number".into()))?;
    if master.is_empty() {
        return Err(StoreError("the master's name is missing: redis+sentinel://host/NAME".into()));
    }
    let nodes = url.nodes(settings)?;
    let node = nodes.first().ok_or_else(|| StoreError("no sentinel is named".into()))?;
    let settings = node.redis_settings().clone().set_db(db);
    let addresses = nodes.iter().map(|node| node.addr().clone()).collect();
    let master = master.to_owned();
    Ok(Kind::Sentinel(Box::new(Sentinels { addresses, master, settings, tls })))
}

fn cluster(
    settings: &RedisSettings,
    url: &Url<'_>,
    tls: Option<TlsCertificates>,
) -> Result<Kind, StoreError> {
    let mut builder = ClusterClient::builder(url.nodes(settings)?)
        .connection_timeout(settings.timeout)
        .response_timeout(settings.timeout)
        .retries(2)
        .tcp_settings(tcp());
    if let Some(tls) = tls {
        builder = builder.tls(TlsMode::Secure).certs(tls);
    }
    Ok(Kind::Cluster(Box::new(builder.build().map_err(wrong)?)))
}

/// One node's address, with the credentials of the settings.
fn connection_info(settings: &RedisSettings, url: &str) -> Result<ConnectionInfo, StoreError> {
    let node = url.into_connection_info().map_err(wrong)?;
    let mut redis =
        node.redis_settings().clone().set_lib_name("gatepost", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        let password = std::str::from_utf8(password.expose());
        redis = redis
            .set_password(password.map_err(|_| StoreError("the password is not text".into()))?);
    }
    Ok(node.set_redis_settings(redis).set_tcp_settings(tcp()))
}

/// Commands are small, and somebody waits for each.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// What certificates are checked against, if there is TLS.
fn tls(settings: &RedisSettings, url: &Url<'_>) -> Result<Option<TlsCertificates>, StoreError> {
    let root_cert = match &settings.ca {
        Some(_) if !url.tls => {
            return Err(StoreError("a CA is given, but the url does not say `rediss`".into()));
        }
        Some(path) => {
            let pem = std::fs::read(path);
            Some(pem.map_err(|error| StoreError(format!("{}: {error}", path.display())))?)
        }
        None => None,
    };
    Ok(url.tls.then_some(TlsCertificates { client_tls: None, root_cert }))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn wrong(error: ::redis::RedisError) -> StoreError {
    StoreError(error.to_string())
}
