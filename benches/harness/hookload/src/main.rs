//! hookload: single-threaded webhook load generator (own code).
//! Sends pre-signed events (gen.py) once each, over HTTP/1.1 or HTTP/2, TLS 1.3 or plain,
//! keep-alive or one connection per request (full or resumed handshakes),
//! closed loop or fixed rate (latency from the intended send time). Prints one JSON line.
use mio::{net::TcpStream, unix::SourceFd, Events, Interest, Poll, Token};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientConnection, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, NamedGroup, SignatureScheme};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct NoVerify;
impl ServerCertVerifier for NoVerify {
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
/// session store that keeps many single-use TLS 1.3 tickets
#[derive(Debug, Default)]
struct Store {
    t13: Mutex<VecDeque<Tls13ClientSessionValue>>,
    kx: Mutex<Option<NamedGroup>>,
}
impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, g: NamedGroup) {
        *self.kx.lock().unwrap() = Some(g)
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.kx.lock().unwrap()
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, v: Tls13ClientSessionValue) {
        let mut q = self.t13.lock().unwrap();
        if q.len() < 20000 {
            q.push_back(v)
        }
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.t13.lock().unwrap().pop_front()
    }
}

struct Rec {
    kind: u8,
    id: [u8; 28],
    tmpl: u16,
    h: (u32, u32),
}
struct Args {
    addr: SocketAddr,
    ev: String,
    conns: usize,
    secs: f64,
    rate: f64,
    h2: usize,
    plain: bool,
    close: bool,
    resume: bool,
    path: String,
    skip: usize,
    max: usize,
    bysec: bool,
    wrap: bool,
}

struct H2 {
    next: u32,
    streams: HashMap<u32, St>,
    cwin: i64,
    iwin: i64,
    maxs: usize,
    recvd: usize,
    goaway: bool,
}
struct St {
    rec: usize,
    t0: f64,
    body: Vec<u8>,
    off: usize,
    win: i64,
    status: u16,
}
struct Conn {
    sock: TcpStream,
    tls: Option<ClientConnection>,
    out: Vec<u8>,
    opos: usize,
    inb: Vec<u8>,
    cur: Option<(usize, f64)>,
    h2: Option<H2>,
    up: bool,
    served: usize,
    counted: bool,
}

struct W {
    a: Args,
    text: Vec<u8>,
    recs: Vec<Rec>,
    tm: Vec<Vec<u8>>,
    idoff: usize,
    cfg: Option<Arc<ClientConfig>>,
    next: usize,
    end: usize,
    start: Instant,
    lat: Vec<f32>,
    mat: [[u64; 6]; 5],
    errs: u64,
    full: u64,
    resumed: u64,
    inflight: usize,
    conns: Vec<Option<Conn>>,
    idle: Vec<usize>,
    stop: bool,
    sent: usize,
    sc: Vec<u8>,
    late: u64,
    firsterr: String,
    gen: usize,
}

fn kidx(k: u8) -> usize {
    match k {
        b'F' => 0,
        b'D' => 1,
        b'B' => 2,
        b'S' => 3,
        _ => 4,
    }
}

impl W {
    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
    fn open(&mut self, poll: &Poll, i: usize) -> io::Result<()> {
        let sock = TcpStream::connect(self.a.addr)?;
        let _ = sock.set_nodelay(true);
        let tls = match &self.cfg {
            Some(c) => {
                let mut t =
                    ClientConnection::new(c.clone(), ServerName::try_from("localhost").unwrap())
                        .unwrap();
                t.set_buffer_limit(None);
                Some(t)
            }
            None => None,
        };
        let mut c = Conn {
            sock,
            tls,
            out: Vec::new(),
            opos: 0,
            inb: Vec::new(),
            cur: None,
            h2: None,
            up: false,
            served: 0,
            counted: false,
        };
        poll.registry().register(&mut c.sock, Token(i), Interest::READABLE | Interest::WRITABLE)?;
        if self.a.h2 > 0 {
            let mut p = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            // SETTINGS: header table 0, no push, initial window 1 MB
            p.extend_from_slice(&[
                0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0,
            ]);
            put(&mut c, &p);
            c.h2 = Some(H2 {
                next: 1,
                streams: HashMap::new(),
                cwin: 65535,
                iwin: 65535,
                maxs: self.a.h2,
                recvd: 0,
                goaway: false,
            });
        }
        self.conns[i] = Some(c);
        Ok(())
    }
    /// may another event be sent now? returns its start time (intended time when --rate)
    fn due(&mut self, now: f64) -> Option<f64> {
        if self.stop || self.next >= self.end {
            return None;
        }
        if self.a.rate > 0.0 {
            let t = self.sent as f64 / self.a.rate;
            if t <= now && t < self.a.secs {
                Some(t)
            } else {
                None
            }
        } else {
            Some(now)
        }
    }
    fn take(&mut self) -> usize {
        let r = self.next;
        self.next += 1;
        self.sent += 1;
        if self.a.wrap && self.next == self.end {
            self.next = 0
        }
        r
    }
    fn send(&mut self, i: usize, t0: f64) {
        let r = self.take();
        let rec = &self.recs[r];
        let t = &self.tm[rec.tmpl as usize];
        let hd = &self.text[rec.h.0 as usize..rec.h.1 as usize];
        self.inflight += 1;
        let sc = &mut self.sc;
        sc.clear();
        let c = self.conns[i].as_mut().unwrap();
        if let Some(h) = c.h2.as_mut() {
            let mut hb = Vec::with_capacity(256);
            hb.push(0x83);
            hb.push(0x87); // POST, https
            lit(&mut hb, 4, None, self.a.path.as_bytes());
            lit(&mut hb, 1, None, b"localhost");
            lit(&mut hb, 31, None, b"application/json; charset=utf-8");
            lit(&mut hb, 28, None, t.len().to_string().as_bytes());
            lit(&mut hb, 58, None, b"Stripe/1.0 (+https://stripe.com/docs/webhooks)");
            for line in hd.split(|b| *b == 0x1f) {
                if let Some(p) = line.windows(2).position(|w| w == b": ") {
                    let n = line[..p].to_ascii_lowercase();
                    lit(&mut hb, 0, Some(&n), &line[p + 2..]);
                }
            }
            let id = h.next;
            h.next += 2;
            frame_hdr(sc, hb.len(), 1, 4, id);
            sc.extend_from_slice(&hb);
            let mut body = t.clone();
            body[self.idoff..self.idoff + 28].copy_from_slice(&rec.id);
            let mut st = St { rec: r, t0, body, off: 0, win: h.iwin, status: 0 };
            push_body(sc, id, &mut st, &mut h.cwin);
            h.streams.insert(id, st);
        } else {
            sc.extend_from_slice(b"POST ");
            sc.extend_from_slice(self.a.path.as_bytes());
            sc.extend_from_slice(b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nContent-Type: application/json; charset=utf-8\r\nAccept: */*\r\nContent-Length: ");
            sc.extend_from_slice(t.len().to_string().as_bytes());
            sc.extend_from_slice(b"\r\n");
            if self.a.close {
                sc.extend_from_slice(b"Connection: close\r\n")
            }
            for line in hd.split(|b| *b == 0x1f) {
                sc.extend_from_slice(line);
                sc.extend_from_slice(b"\r\n");
            }
            sc.extend_from_slice(b"\r\n");
            let b = sc.len();
            sc.extend_from_slice(t);
            sc[b + self.idoff..b + self.idoff + 28].copy_from_slice(&rec.id);
            c.cur = Some((r, t0));
        }
        put(c, sc);
        if c.up {
            flush(c);
        }
    }
    fn done(&mut self, r: usize, t0: f64, status: u16) {
        let now = self.now();
        self.inflight -= 1;
        let k = kidx(self.recs[r].kind);
        let cl = match status {
            200..=299 => 0,
            300..=399 => 1,
            400..=499 => 2,
            500..=599 => 3,
            _ => 4,
        };
        self.mat[k][cl] += 1;
        self.lat.push(((now - t0) * 1e6) as f32);
    }
    fn lost(&mut self, r: usize, why: &str) {
        self.inflight -= 1;
        self.errs += 1;
        let k = kidx(self.recs[r].kind);
        self.mat[k][5] += 1;
        if self.firsterr.is_empty() {
            self.firsterr = why.to_string()
        }
    }
    /// close connection i; count what it carried as lost; start a replacement unless finished
    fn drop_conn(&mut self, poll: &Poll, i: usize, why: &str) {
        if let Some(mut c) = self.conns[i].take() {
            let _ = poll.registry().deregister(&mut c.sock);
            if let Some((r, _)) = c.cur {
                self.lost(r, why)
            }
            if let Some(h) = c.h2 {
                for (_, s) in h.streams {
                    self.lost(s.rec, why)
                }
            }
            self.idle.retain(|x| *x != i);
        }
        if !self.stop {
            self.revive(poll, i)
        }
    }
    fn revive(&mut self, poll: &Poll, i: usize) {
        if self.a.close {
            // opened when its event is sent
            self.idle.push(i);
        } else if self.open(poll, i).is_ok() {
            self.idle.push(i);
        } else {
            self.errs += 1;
        }
    }
    fn dispatch(&mut self, poll: &Poll) {
        let mut back = Vec::new();
        while let Some(i) = self.idle.pop() {
            let now = self.now();
            let Some(t0) = self.due(now) else {
                back.push(i);
                break;
            };
            if self.conns[i].is_none() {
                if self.open(poll, i).is_err() {
                    self.errs += 1;
                    back.push(i);
                    break;
                }
            }
            let room = match self.conns[i].as_ref().unwrap().h2.as_ref() {
                Some(h) => {
                    if h.goaway {
                        0
                    } else {
                        h.maxs.min(self.a.h2) - h.streams.len().min(h.maxs.min(self.a.h2))
                    }
                }
                None => 1,
            };
            if room == 0 {
                continue;
            }
            self.send(i, t0);
            if self.a.h2 > 0 && room > 1 {
                self.idle.push(i)
            }
        }
        self.idle.extend(back);
    }
    fn event(&mut self, poll: &Poll, i: usize) {
        let Some(c) = self.conns[i].as_mut() else { return };
        if !c.up {
            match c.sock.take_error() {
                Ok(None) => {}
                e => {
                    let m = format!("connect {e:?}");
                    return self.drop_conn(poll, i, &m);
                }
            }
            match c.sock.peer_addr() {
                Ok(_) => c.up = true,
                Err(_) => return,
            }
        }
        let mut eof = false;
        let mut err: Option<String> = None;
        flush(c);
        let mut tmp = [0u8; 16384];
        if let Some(t) = c.tls.as_mut() {
            loop {
                match t.read_tls(&mut c.sock) {
                    Ok(0) => {
                        eof = true;
                        break;
                    }
                    Ok(_) => match t.process_new_packets() {
                        Ok(st) => {
                            if st.peer_has_closed() {
                                eof = true
                            }
                            loop {
                                match t.reader().read(&mut tmp) {
                                    Ok(0) => break,
                                    Ok(n) => c.inb.extend_from_slice(&tmp[..n]),
                                    Err(_) => break,
                                }
                            }
                        }
                        Err(e) => {
                            err = Some(format!("tls {e}"));
                            break;
                        }
                    },
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        err = Some(e.to_string());
                        break;
                    }
                }
                if eof {
                    break;
                }
            }
            if !c.counted && !t.is_handshaking() {
                c.counted = true;
                match t.handshake_kind() {
                    Some(HandshakeKind::Resumed) => self.resumed += 1,
                    _ => self.full += 1,
                }
            }
        } else {
            loop {
                match c.sock.read(&mut tmp) {
                    Ok(0) => {
                        eof = true;
                        break;
                    }
                    Ok(n) => c.inb.extend_from_slice(&tmp[..n]),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        err = Some(e.to_string());
                        break;
                    }
                }
            }
        }
        flush(self.conns[i].as_mut().unwrap());
        // responses
        let c = self.conns[i].as_mut().unwrap();
        if c.h2.is_some() {
            let fin = self.h2_in(i);
            if let Err(m) = fin {
                err = Some(m)
            }
        } else if let Some((r, t0)) = c.cur {
            if let Some((status, used, close)) = parse_h1(&c.inb, eof) {
                c.inb.drain(..used);
                c.cur = None;
                c.served += 1;
                self.done(r, t0, status);
                if self.a.close || close || eof {
                    if let Some(mut c) = self.conns[i].take() {
                        if let Some(t) = c.tls.as_mut() {
                            t.send_close_notify();
                            let _ = t.write_tls(&mut c.sock);
                        }
                        let _ = poll.registry().deregister(&mut c.sock);
                    }
                    if !self.stop {
                        self.revive(poll, i)
                    }
                    return;
                }
                self.idle.push(i);
            }
        }
        if eof || err.is_some() {
            let m = err.unwrap_or_else(|| "eof".into());
            self.drop_conn(poll, i, &m)
        }
    }
    fn h2_in(&mut self, i: usize) -> Result<(), String> {
        let mut fin: Vec<(usize, f64, u16)> = Vec::new();
        let c = self.conns[i].as_mut().unwrap();
        let mut p = 0;
        let mut ob: Vec<u8> = Vec::new();
        {
            let h = c.h2.as_mut().unwrap();
            while c.inb.len() - p >= 9 {
                let b = &c.inb[p..];
                let l = (b[0] as usize) << 16 | (b[1] as usize) << 8 | b[2] as usize;
                if b.len() < 9 + l {
                    break;
                }
                let (ty, fl) = (b[3], b[4]);
                let id = u32::from_be_bytes([b[5] & 127, b[6], b[7], b[8]]);
                let pl = &b[9..9 + l];
                let mut ended = false;
                match ty {
                    0 => {
                        h.recvd += l;
                        ended = fl & 1 != 0;
                    }
                    1 => {
                        let mut x = pl;
                        if fl & 8 != 0 {
                            let pad = x[0] as usize;
                            x = &x[1..x.len() - pad];
                        }
                        if fl & 32 != 0 {
                            x = &x[5..];
                        }
                        if let Some(s) = h.streams.get_mut(&id) {
                            s.status = hpack_status(x);
                        }
                        ended = fl & 1 != 0;
                    }
                    3 => {
                        if let Some(s) = h.streams.remove(&id) {
                            fin.push((s.rec, s.t0, 0));
                        }
                    }
                    4 => {
                        if fl & 1 == 0 {
                            for s in pl.chunks_exact(6) {
                                let k = u16::from_be_bytes([s[0], s[1]]);
                                let v = u32::from_be_bytes([s[2], s[3], s[4], s[5]]);
                                if k == 3 {
                                    h.maxs = v as usize
                                } else if k == 4 {
                                    let d = v as i64 - h.iwin;
                                    h.iwin = v as i64;
                                    for s in h.streams.values_mut() {
                                        s.win += d
                                    }
                                }
                            }
                            frame_hdr(&mut ob, 0, 4, 1, 0);
                            for (id, s) in h.streams.iter_mut() {
                                push_body(&mut ob, *id, s, &mut h.cwin);
                            }
                        }
                    }
                    6 => {
                        if fl & 1 == 0 {
                            frame_hdr(&mut ob, 8, 6, 1, 0);
                            ob.extend_from_slice(pl);
                        }
                    }
                    7 => h.goaway = true,
                    8 => {
                        let v = u32::from_be_bytes([pl[0] & 127, pl[1], pl[2], pl[3]]) as i64;
                        if id == 0 {
                            h.cwin += v;
                            for (id, s) in h.streams.iter_mut() {
                                if s.off < s.body.len() {
                                    push_body(&mut ob, *id, s, &mut h.cwin);
                                }
                            }
                        } else if let Some(s) = h.streams.get_mut(&id) {
                            s.win += v;
                            push_body(&mut ob, id, s, &mut h.cwin);
                        }
                    }
                    _ => {}
                }
                if ended {
                    if let Some(s) = h.streams.remove(&id) {
                        if s.off < s.body.len() {
                            frame_hdr(&mut ob, 4, 3, 0, id);
                            ob.extend_from_slice(&[0, 0, 0, 8]);
                        }
                        fin.push((s.rec, s.t0, s.status));
                    }
                }
                p += 9 + l;
            }
            if h.recvd > 20000 {
                frame_hdr(&mut ob, 4, 8, 0, 0);
                ob.extend_from_slice(&(h.recvd as u32).to_be_bytes());
                h.recvd = 0;
            }
        }
        c.inb.drain(..p);
        if !ob.is_empty() {
            put(c, &ob);
            flush(c);
        }
        let ga = {
            let h = c.h2.as_ref().unwrap();
            h.goaway && h.streams.is_empty()
        };
        let had = !fin.is_empty();
        for (r, t0, s) in fin {
            self.done(r, t0, s)
        }
        if ga {
            return Err("goaway".into());
        }
        if had && !self.idle.contains(&i) {
            self.idle.push(i)
        }
        Ok(())
    }
}
fn put(c: &mut Conn, b: &[u8]) {
    if let Some(t) = c.tls.as_mut() {
        t.writer().write_all(b).unwrap();
    } else {
        c.out.extend_from_slice(b)
    }
}
fn flush(c: &mut Conn) {
    if let Some(t) = c.tls.as_mut() {
        while t.wants_write() {
            match t.write_tls(&mut c.sock) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => break,
            }
        }
    } else {
        while c.opos < c.out.len() {
            match c.sock.write(&c.out[c.opos..]) {
                Ok(n) => c.opos += n,
                Err(_) => break,
            }
        }
        if c.opos == c.out.len() {
            c.out.clear();
            c.opos = 0
        }
    }
}
fn frame_hdr(v: &mut Vec<u8>, l: usize, ty: u8, fl: u8, id: u32) {
    v.extend_from_slice(&[(l >> 16) as u8, (l >> 8) as u8, l as u8, ty, fl]);
    v.extend_from_slice(&id.to_be_bytes());
}
fn push_body(v: &mut Vec<u8>, id: u32, s: &mut St, cwin: &mut i64) {
    while s.off < s.body.len() {
        let n = (s.body.len() - s.off)
            .min(16384)
            .min(s.win.max(0) as usize)
            .min((*cwin).max(0) as usize);
        if n == 0 {
            return;
        }
        let last = s.off + n == s.body.len();
        frame_hdr(v, n, 0, last as u8, id);
        v.extend_from_slice(&s.body[s.off..s.off + n]);
        s.off += n;
        s.win -= n as i64;
        *cwin -= n as i64;
    }
}
fn int(v: &mut Vec<u8>, pre: u8, bits: u8, mut n: usize) {
    let m = (1usize << bits) - 1;
    if n < m {
        v.push(pre | n as u8)
    } else {
        v.push(pre | m as u8);
        n -= m;
        while n >= 128 {
            v.push((n % 128 + 128) as u8);
            n /= 128
        }
        v.push(n as u8)
    }
}
fn lit(v: &mut Vec<u8>, idx: usize, name: Option<&[u8]>, val: &[u8]) {
    int(v, 0, 4, idx);
    if let Some(n) = name {
        int(v, 0, 7, n.len());
        v.extend_from_slice(n)
    }
    int(v, 0, 7, val.len());
    v.extend_from_slice(val)
}
fn hpack_status(mut x: &[u8]) -> u16 {
    while let Some(&b) = x.first() {
        if b & 0xe0 == 0x20 {
            x = &x[1..];
            continue;
        } // table size update
        if b & 0x80 != 0 {
            return match b & 0x7f {
                8 => 200,
                9 => 204,
                10 => 206,
                11 => 304,
                12 => 400,
                13 => 404,
                14 => 500,
                _ => 1,
            };
        }
        let idx = if b & 0x40 != 0 { b & 0x3f } else { b & 0x0f };
        if (8..=14).contains(&idx) && x.len() > 2 {
            let l = (x[1] & 0x7f) as usize;
            let s = &x[2..(2 + l).min(x.len())];
            if x[1] & 0x80 == 0 {
                return std::str::from_utf8(s).ok().and_then(|s| s.parse().ok()).unwrap_or(1);
            }
            let mut bits: Vec<u8> = Vec::new();
            for b in s {
                for k in (0..8).rev() {
                    bits.push(b >> k & 1)
                }
            }
            let (mut v, mut p) = (0u16, 0);
            for _ in 0..3 {
                if p + 5 > bits.len() {
                    break;
                }
                let f = bits[p..p + 5].iter().fold(0u8, |a, b| a * 2 + b);
                if f < 3 {
                    v = v * 10 + f as u16;
                    p += 5
                } else {
                    if p + 6 > bits.len() {
                        break;
                    }
                    let g = bits[p..p + 6].iter().fold(0u8, |a, b| a * 2 + b);
                    v = v * 10 + (g as u16 - 25 + 3);
                    p += 6
                }
            }
            return v;
        }
        return 1;
    }
    1
}
fn find(h: &[u8], n: &[u8]) -> Option<usize> {
    h.windows(n.len()).position(|w| w == n)
}
fn parse_h1(b: &[u8], eof: bool) -> Option<(u16, usize, bool)> {
    let he = find(b, b"\r\n\r\n")? + 4;
    let status: u16 = std::str::from_utf8(&b[9..12]).ok()?.parse().ok()?;
    if status == 100 {
        return None;
    }
    let (mut cl, mut chunked, mut close) = (None, false, false);
    for l in b[..he].split(|c| *c == b'\n').skip(1) {
        let l = l.strip_suffix(b"\r").unwrap_or(l);
        if let Some(p) = l.iter().position(|c| *c == b':') {
            let n = &l[..p];
            let v = std::str::from_utf8(&l[p + 1..]).unwrap_or("").trim();
            if n.eq_ignore_ascii_case(b"content-length") {
                cl = v.parse::<usize>().ok()
            } else if n.eq_ignore_ascii_case(b"transfer-encoding") {
                chunked = v.eq_ignore_ascii_case("chunked")
            } else if n.eq_ignore_ascii_case(b"connection") {
                close = v.eq_ignore_ascii_case("close")
            }
        }
    }
    if status == 204 || status == 304 {
        return Some((status, he, close));
    }
    if chunked {
        let rest = &b[he..];
        let e = if rest.starts_with(b"0\r\n\r\n") {
            Some(5)
        } else {
            find(rest, b"\r\n0\r\n\r\n").map(|p| p + 7)
        };
        return e.map(|e| (status, he + e, close));
    }
    match cl {
        Some(n) => {
            if b.len() >= he + n {
                Some((status, he + n, close))
            } else {
                None
            }
        }
        None => {
            if eof {
                Some((status, b.len(), true))
            } else {
                None
            }
        }
    }
}
fn cpu_self() -> f64 {
    unsafe {
        let mut u: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut u);
        u.ru_utime.tv_sec as f64
            + u.ru_stime.tv_sec as f64
            + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) as f64 / 1e6
    }
}

fn main() {
    let mut a = Args {
        addr: "127.0.0.1:8441".parse().unwrap(),
        ev: String::new(),
        conns: 64,
        secs: 5.0,
        rate: 0.0,
        h2: 0,
        plain: false,
        close: false,
        resume: false,
        path: "/webhook".into(),
        skip: 0,
        max: usize::MAX,
        bysec: false,
        wrap: false,
    };
    let mut it = std::env::args().skip(1);
    while let Some(k) = it.next() {
        let mut v = || it.next().expect("value");
        match k.as_str() {
            "--addr" => a.addr = v().parse().unwrap(),
            "--events" => a.ev = v(),
            "-c" => a.conns = v().parse().unwrap(),
            "-d" => a.secs = v().parse().unwrap(),
            "--rate" => a.rate = v().parse().unwrap(),
            "--h2" => a.h2 = v().parse().unwrap(),
            "--plain" => a.plain = true,
            "--close" => a.close = true,
            "--resume" => a.resume = true,
            "--path" => a.path = v(),
            "--skip" => a.skip = v().parse().unwrap(),
            "--max" => a.max = v().parse().unwrap(),
            "--by-second" => a.bysec = true,
            "--wrap" => a.wrap = true,
            o => panic!("unknown option {o}"),
        }
    }
    assert!(a.addr.ip().is_loopback(), "loopback only");
    let text = std::fs::read(format!("{}/events.tsv", a.ev)).expect("events.tsv");
    let mut recs = Vec::new();
    let mut p = 0;
    while p < text.len() {
        let e = text[p..].iter().position(|b| *b == b'\n').map(|x| p + x).unwrap_or(text.len());
        let l = &text[p..e];
        if l.is_empty() {
            break;
        }
        let mut id = [0u8; 28];
        id.copy_from_slice(&l[2..30]);
        let t2 = 31 + l[31..].iter().position(|b| *b == b'\t').unwrap();
        recs.push(Rec {
            kind: l[0],
            id,
            tmpl: std::str::from_utf8(&l[31..t2]).unwrap().parse().unwrap(),
            h: ((p + t2 + 1) as u32, e as u32),
        });
        p = e + 1;
    }
    let mut tm = Vec::new();
    while let Ok(b) = std::fs::read(format!("{}/tmpl_{}.json", a.ev, tm.len())) {
        tm.push(b)
    }
    let idoff = find(&tm[0], b"evt_000000").unwrap();
    let store = Arc::new(Store::default());
    let cfg = if a.plain {
        None
    } else {
        let mut prov = rustls::crypto::aws_lc_rs::default_provider();
        prov.kx_groups = vec![
            rustls::crypto::aws_lc_rs::kx_group::X25519,
            rustls::crypto::aws_lc_rs::kx_group::SECP256R1,
        ];
        prov.cipher_suites = vec![
            rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ];
        let mut c = ClientConfig::builder_with_provider(Arc::new(prov))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerify))
            .with_no_client_auth();
        c.alpn_protocols = vec![if a.h2 > 0 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        c.resumption =
            if a.resume { Resumption::store(store.clone()) } else { Resumption::disabled() };
        Some(Arc::new(c))
    };
    let end = recs.len().min(a.skip.saturating_add(a.max));
    let n = a.conns;
    let (secs, close, rate) = (a.secs, a.close, a.rate);
    let mut poll = Poll::new().unwrap();
    let mut evs = Events::with_capacity(1024);
    let tfd: RawFd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK) };
    poll.registry()
        .register(&mut SourceFd(&tfd), Token(usize::MAX - 1), Interest::READABLE)
        .unwrap();
    let mut w = W {
        next: a.skip,
        end,
        a,
        text,
        recs,
        tm,
        idoff,
        cfg,
        start: Instant::now(),
        lat: Vec::with_capacity(1 << 20),
        mat: Default::default(),
        errs: 0,
        full: 0,
        resumed: 0,
        inflight: 0,
        conns: (0..n).map(|_| None).collect(),
        idle: Vec::new(),
        stop: false,
        sent: 0,
        sc: Vec::new(),
        late: 0,
        firsterr: String::new(),
        gen: 0,
    };
    let cpu0 = cpu_self();
    let cs = Instant::now();
    for i in 0..n {
        if !close {
            w.open(&poll, i).expect("connect");
        }
        w.idle.push(i);
    }
    if !close {
        // let all handshakes finish before the clock starts
        let t = Instant::now();
        while t.elapsed() < Duration::from_secs(5)
            && w.conns
                .iter()
                .flatten()
                .any(|c| c.tls.as_ref().map(|t| t.is_handshaking()).unwrap_or(!c.up))
        {
            poll.poll(&mut evs, Some(Duration::from_millis(50))).unwrap();
            let ids: Vec<usize> = evs.iter().map(|e| e.token().0).collect();
            for i in ids {
                if i < n {
                    w.event(&poll, i)
                }
            }
        }
    }
    let setup = cs.elapsed().as_secs_f64();
    w.start = Instant::now();
    let mut last = 0usize;
    let mut nexts = 1.0;
    loop {
        let now = w.now();
        if now >= secs || (w.next >= w.end) {
            w.stop = true
        }
        if w.stop && w.inflight == 0 {
            break;
        }
        if now > secs + 8.0 {
            for i in 0..n {
                w.drop_conn(&poll, i, "timeout")
            }
            break;
        }
        w.dispatch(&poll);
        let mut to = 100.0f64;
        if rate > 0.0 && !w.stop {
            let d = w.sent as f64 / rate - w.now();
            let d = d.max(1e-6);
            if !w.idle.is_empty() {
                let ts = libc::itimerspec {
                    it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
                    it_value: libc::timespec {
                        tv_sec: d as i64,
                        tv_nsec: ((d.fract() * 1e9) as i64).max(1000),
                    },
                };
                unsafe {
                    libc::timerfd_settime(tfd, 0, &ts, std::ptr::null_mut());
                }
            } else {
                w.late += 1
            }
        }
        if !w.stop {
            to = to.min(((secs - w.now()) * 1e3).max(1.0))
        }
        poll.poll(&mut evs, Some(Duration::from_secs_f64(to / 1e3))).unwrap();
        let ids: Vec<usize> = evs.iter().map(|e| e.token().0).collect();
        for i in ids {
            if i < n {
                w.event(&poll, i)
            } else {
                let mut b = [0u8; 8];
                unsafe {
                    libc::read(tfd, b.as_mut_ptr() as *mut _, 8);
                }
            }
        }
        w.gen += 1;
        if w.a.bysec && w.now() > nexts {
            eprintln!("{:.0}s {}", nexts, w.lat.len() - last);
            last = w.lat.len();
            nexts += 1.0
        }
    }
    let el = w.now();
    let cpu = cpu_self() - cpu0;
    let mut l = std::mem::take(&mut w.lat);
    l.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let q = |p: f64| {
        if l.is_empty() {
            0.0
        } else {
            l[((l.len() as f64 * p).ceil() as usize).clamp(1, l.len()) - 1] as f64 / 1e3
        }
    };
    let m = w.mat;
    let row = |k: usize| {
        format!("[{},{},{},{},{},{}]", m[k][0], m[k][1], m[k][2], m[k][3], m[k][4], m[k][5])
    };
    println!("{{\"n\":{},\"secs\":{:.3},\"rps\":{:.1},\"p50\":{:.3},\"p90\":{:.3},\"p99\":{:.3},\"p999\":{:.3},\"max\":{:.3},\"errors\":{},\"full\":{},\"resumed\":{},\"gen_cpu\":{:.3},\"setup\":{:.3},\"unsent\":{},\"F\":{},\"D\":{},\"B\":{},\"S\":{},\"M\":{},\"err\":\"{}\"}}",
        l.len(), el, l.len() as f64 / el, q(0.5), q(0.9), q(0.99), q(0.999), q(1.0), w.errs, w.full, w.resumed, cpu, setup,
        if rate > 0.0 { ((rate * secs) as i64 - w.sent as i64).max(0) } else { 0 }, row(0), row(1), row(2), row(3), row(4), w.firsterr.replace('"', "'"));
}
