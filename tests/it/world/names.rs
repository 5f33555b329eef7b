//! A name server that one gateway asks and nobody else: whatever the name, it answers what it is told to. Being led to it
//! needs root, for mounts of the gateway's own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use tokio::{net::UdpSocket, task::JoinSet};

#[derive(Debug)]
pub struct Names {
    said: Arc<Mutex<Said>>,
    /// What the gateway sees instead of the system's files.
    files: TempDir,
    _tasks: JoinSet<()>,
}

/// What is answered, and how often it was asked for.
#[derive(Debug, Default)]
struct Said {
    /// To the first question, to the second, and so on; the last one to all others.
    turns: Vec<Vec<IpAddr>>,
    /// Questions for addresses of version 4, and of version 6.
    asked: [usize; 2],
}

impl Names {
    pub async fn start() -> Self {
        let (socket, files) = (socket().await, tempfile::tempdir().unwrap());
        let address = socket.local_addr().unwrap().ip();
        fs::write(files.path().join("resolv.conf"), format!("nameserver {address}\n")).unwrap();
        fs::write(files.path().join("nsswitch.conf"), "hosts: dns\n").unwrap();
        let (said, mut tasks) = (Arc::<Mutex<Said>>::default(), JoinSet::new());
        tasks.spawn(serve(socket, Arc::clone(&said)));
        Self { said, files, _tasks: tasks }
    }

    /// What names lead to from now on: to the first of `turns` when they are looked up next, then to the second.
    pub fn say(&self, turns: &[&[IpAddr]]) {
        let turns = turns.iter().map(|turn| turn.to_vec()).collect();
        *self.said.lock().unwrap() = Said { turns, asked: [0, 0] };
    }

    /// How often a name was looked up since then.
    pub fn asked(&self) -> usize {
        *self.said.lock().unwrap().asked.iter().max().unwrap()
    }

    /// What a process is started by that asks here.
    pub fn wrapper(&self) -> Vec<String> {
        let script = "mount --bind \"$1/resolv.conf\" /etc/resolv.conf && \
                      mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf && shift && exec \"$@\"";
        let files = self.files.path().to_str().unwrap();
        ["unshare", "--mount", "sh", "-c", script, "sh", files].map(String::from).to_vec()
    }
}

/// The port of name servers, where nobody has it yet.
async fn socket() -> UdpSocket {
    for n in 1..=254 {
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::new(127, 53, 0, n), 53)).await {
            return socket;
        }
    }
    panic!("no address of 127.53.0.0/24 has port 53 to give; it needs root");
}

async fn serve(socket: UdpSocket, said: Arc<Mutex<Said>>) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query).await {
        let answer = said.lock().unwrap().answer(&query[..length]);
        let _ = socket.send_to(&answer, from).await; // who asked may be gone
    }
}

impl Said {
    /// The answer to a question (RFC 1035, 4), which holds for no time at all.
    fn answer(&mut self, query: &[u8]) -> Vec<u8> {
        const A: u8 = 1;
        // The name ends with a zero; two bytes each of type and class follow.
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let kind = query[end - 3];
        let asked = &mut self.asked[usize::from(kind != A)];
        let turn = self.turns.get(*asked).or(self.turns.last());
        *asked += 1;
        let fits = |address: &&IpAddr| address.is_ipv4() == (kind == A);
        let found: Vec<_> = turn.into_iter().flatten().filter(fits).collect();
        let count = u8::try_from(found.len()).unwrap();
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(&query[12..end]);
        for address in found {
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let length = u8::try_from(octets.len()).unwrap();
            answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, length]);
            answer.extend(octets);
        }
        answer
    }
}
