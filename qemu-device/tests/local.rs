//! The device on a socket, with clients that behave and clients that do not.
#![allow(
    unsafe_code,
    reason = "SOCK_SEQPACKET sockets are not in the standard library"
)]

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use vgpu_protocol::regs::{
    BAR0_BYTES, ChannelCommand, ChannelReg, ChannelState, MAGIC, Reg, channel_offset,
};
use vgpu_stub::local::{GREETING, MAX_CLIENTS, Server};
use vgpu_stub::{Config, Properties};
use vgpu_test_harness::machine::wait_until;

/// A server in this process, for as long as the test runs.
fn serve(name: &str) -> PathBuf {
    let properties = Properties {
        vm_id: 111,
        backend: "soft".to_owned(),
        bar1_size: 16 << 20,
        channels: 4,
        ..Properties::default()
    };
    let config = Config::from_properties(&properties).expect("valid");
    let path = std::env::temp_dir().join(format!("vgpu-local-test-{}-{name}", std::process::id()));
    let server = Server::bind(&path, config).expect("a server");
    std::thread::spawn(move || server.run());
    path
}

struct Client(OwnedFd);

impl Client {
    /// Connects; `None` when the server turns it away.
    fn connect(path: &Path) -> Option<Client> {
        // SAFETY: no pointers; a new descriptor or -1.
        let raw =
            unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) };
        assert!(raw >= 0);
        // SAFETY: just created, nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: all-zero is a valid `sockaddr_un`.
        let mut address: libc::sockaddr_un = unsafe { zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
            *to = *from as libc::c_char;
        }
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: an initialised address of that length.
        let connected =
            unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(connected, 0, "{}", std::io::Error::last_os_error());
        let client = Client(fd);
        let mut greeting = [0; 64];
        // The descriptors that come along are not taken: the kernel closes them.
        match client.receive(&mut greeting) {
            32 => {
                assert_eq!(&greeting[..8], GREETING);
                assert_eq!(greeting[8..16], [4, 0, 0, 0, 0, 0, 0, 0]);
                assert_eq!(greeting[16..24], BAR0_BYTES.to_le_bytes());
                assert_eq!(greeting[24..32], (16u64 << 20).to_le_bytes());
                Some(client)
            }
            0 => None,
            other => panic!("a greeting of {other} bytes"),
        }
    }

    fn send(&self, bytes: &[u8]) {
        // SAFETY: a buffer with its length.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        assert_eq!(sent, bytes.len() as isize);
    }

    /// Length of the next packet; 0 when the server has closed the connection.
    fn receive(&self, into: &mut [u8]) -> usize {
        // SAFETY: a buffer with its length.
        let got =
            unsafe { libc::recv(self.0.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), 0) };
        // A server that closes with packets unread resets the connection.
        got.max(0) as usize
    }

    fn request(&self, operation: u32, size: u32, offset: u64, value: u64) -> Option<u64> {
        let mut packet = Vec::new();
        packet.extend(operation.to_le_bytes());
        packet.extend(size.to_le_bytes());
        packet.extend(offset.to_le_bytes());
        packet.extend(value.to_le_bytes());
        self.send(&packet);
        let mut answer = [0; 8];
        match self.receive(&mut answer) {
            8 => Some(u64::from_le_bytes(answer)),
            0 => None,
            other => panic!("an answer of {other} bytes"),
        }
    }

    fn read(&self, offset: u64) -> u64 {
        self.request(0, 4, offset, 0).expect("an answer")
    }

    fn write(&self, offset: u64, value: u64) {
        assert_eq!(self.request(1, 4, offset, value), Some(0));
    }

    fn state(&self, channel: u32) -> u64 {
        self.read(channel_offset(channel, ChannelReg::State))
    }

    fn command(&self, channel: u32, command: ChannelCommand) {
        self.write(channel_offset(channel, ChannelReg::Control), command as u64);
    }
}

#[test]
fn registers_through_the_socket() {
    let path = serve("registers");
    let client = Client::connect(&path).expect("room");
    assert_eq!(client.read(Reg::Magic.offset()), u64::from(MAGIC));
    client.write(Reg::Scratch.offset(), 77);
    let other = Client::connect(&path).expect("room");
    assert_eq!(other.read(Reg::Scratch.offset()), 77, "one device for all");
    // The device's own rules hold.
    assert_eq!(client.request(0, 8, Reg::Magic.offset(), 0), Some(0));
    assert_eq!(client.request(0, 4, u64::MAX, 0), Some(0));
    assert_eq!(client.request(1, u32::MAX, u64::MAX, u64::MAX), Some(0));
}

#[test]
fn a_client_that_goes_leaves_its_channels() {
    let path = serve("goes");
    let watcher = Client::connect(&path).expect("room");
    let client = Client::connect(&path).expect("room");
    for channel in [0, 2] {
        client.command(channel, ChannelCommand::Claim);
    }
    // Claimed by another, released by another: no business of the first one's end.
    watcher.command(1, ChannelCommand::Claim);
    let again = Client::connect(&path).expect("room");
    again.command(0, ChannelCommand::Release);
    wait_until("channel 0 is free", || {
        watcher.state(0) == ChannelState::Free as u64
    });
    drop(client);
    wait_until("channel 2 is free", || {
        watcher.state(2) == ChannelState::Free as u64
    });
    assert_eq!(watcher.state(1), ChannelState::Claimed as u64);
}

#[test]
fn a_claim_has_one_winner() {
    let path = serve("winner");
    let watcher = Client::connect(&path).expect("room");
    let generation = || watcher.read(channel_offset(3, ChannelReg::Generation));
    for turn in 1..=20 {
        let clients: Vec<Client> = (0..4)
            .map(|_| Client::connect(&path).expect("room"))
            .collect();
        std::thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| client.command(3, ChannelCommand::Claim));
            }
        });
        assert_eq!(
            (generation(), watcher.state(3)),
            (turn, ChannelState::Claimed as u64)
        );
        drop(clients);
        // Whoever won has gone, and the channel with it.
        wait_until("the channel is free", || {
            watcher.state(3) == ChannelState::Free as u64
        });
    }
}

#[test]
fn malformed_packets_end_their_connection_alone() {
    let path = serve("malformed");
    let good = Client::connect(&path).expect("room");
    let long = vec![0; 4096];
    for packet in [&[0u8][..], &[0; 23], &[0; 25], &long, &[2; 24], &[0xff; 24]] {
        let bad = Client::connect(&path).expect("room");
        bad.command(0, ChannelCommand::Claim);
        bad.send(packet);
        assert_eq!(bad.receive(&mut [0; 8]), 0, "the connection ends");
        wait_until("what it had is free", || {
            good.state(0) == ChannelState::Free as u64
        });
    }
    assert_eq!(good.read(Reg::VmId.offset()), 111);
}

#[test]
fn clients_at_their_limit_and_above() {
    let path = serve("limit");
    let mut clients: Vec<Client> = (0..MAX_CLIENTS)
        .map(|_| Client::connect(&path).expect("room"))
        .collect();
    assert!(
        Client::connect(&path).is_none(),
        "one more than {MAX_CLIENTS}"
    );
    assert_eq!(clients[0].read(Reg::VmId.offset()), 111);
    clients.pop();
    wait_until("there is room again", || Client::connect(&path).is_some());
}
