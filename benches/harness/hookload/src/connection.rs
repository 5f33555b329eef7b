//! One TLS connection: what has to be written, what was read, and the protocol spoken on it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use mio::{Interest, Registry, Token, net::TcpStream};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::http2::Http2;

/// A request under way: which event, and when it was (or should have been) sent.
#[derive(Clone, Copy)]
pub struct Sent {
    pub event: usize,
    pub at: f64,
}

pub enum Protocol {
    /// HTTP/1.1, with the request that waits for its answer.
    Http1(Option<Sent>),
    Http2(Http2),
}

pub struct Connection {
    socket: TcpStream,
    tls: ClientConnection,
    /// What was received and not yet understood.
    pub inbox: Vec<u8>,
    pub protocol: Protocol,
    connected: bool,
}

/// How far reading came.
pub enum Reading {
    Open,
    Closed,
}

impl Connection {
    pub fn open(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        streams: usize,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        let protocol = match streams {
            0 => Protocol::Http1(None),
            _ => {
                tls.writer().write_all(&Http2::preface())?;
                Protocol::Http2(Http2::new(streams))
            }
        };
        Ok(Self { socket, tls, inbox: Vec::new(), protocol, connected: false })
    }

    pub fn is_ready(&self) -> bool {
        self.connected && !self.tls.is_handshaking()
    }

    /// Queues bytes, and writes what the socket takes.
    pub fn write(&mut self, bytes: &[u8]) {
        // The buffer has no limit, so that writing into it cannot fail.
        let _ = self.tls.writer().write_all(bytes);
        if self.connected {
            self.flush();
        }
    }

    fn flush(&mut self) {
        while self.tls.wants_write() && matches!(self.tls.write_tls(&mut self.socket), Ok(1..)) {}
    }

    /// Takes in all that has arrived.
    pub fn read(&mut self) -> Result<Reading, String> {
        if let Some(error) = self.socket.take_error().map_err(|e| e.to_string())? {
            return Err(format!("connect: {error}"));
        }
        if !self.connected {
            if self.socket.peer_addr().is_err() {
                return Ok(Reading::Open);
            }
            self.connected = true;
        }
        self.flush();
        let reading = self.receive();
        self.flush();
        reading
    }

    fn receive(&mut self) -> Result<Reading, String> {
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Ok(Reading::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Reading::Open),
                Err(e) => return Err(e.to_string()),
            }
            let state = self.tls.process_new_packets().map_err(|e| format!("tls: {e}"))?;
            let before = self.inbox.len();
            self.inbox.resize(before + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.inbox[before..]).map_err(|e| e.to_string())?;
            if state.peer_has_closed() {
                return Ok(Reading::Closed);
            }
        }
    }

    pub fn close(mut self, registry: &Registry) {
        self.tls.send_close_notify();
        self.flush();
        // It is being dropped; nothing is lost with it.
        let _ = registry.deregister(&mut self.socket);
    }
}

/// TLS 1.3, AES-128-GCM, X25519, full handshakes.
pub fn tls_config(http2: bool) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    provider.cipher_suites =
        vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 has cipher suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Checking certificates would cost the generator CPU and tell nothing: the peer is on loopback.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
