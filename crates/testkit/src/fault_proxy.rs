//! A network that fails as it is told: a proxy on loopback between a client and a server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Everything comes so much later.
    Delay(Duration),
    /// Every connection is reset, new ones too.
    Reset,
    /// Nothing arrives, not even that somebody has closed. It does once the fault is over, as with TCP that tries again.
    BlackHole,
    /// As [`Fault::BlackHole`] for the connections that there are, while new ones work: a firewall has forgotten them.
    Forgotten,
    /// What the client says arrives; what the server says is lost for good.
    LoseAnswers,
}

/// A running proxy. Dropped, it closes all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts on a free port, without a fault.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (fault, watched) = watch::channel(Fault::None);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, server, watched.clone()));
            }
        });
        Ok(Self { address, fault, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Fails in this way from now on, on all connections.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Why a connection ends.
enum End {
    Closed,
    Reset,
}

async fn join(mut client: TcpStream, server: SocketAddr, fault: watch::Receiver<Fault>) {
    let mut arriving = fault.clone();
    let swallows: &[_] = match *arriving.borrow() {
        Fault::Forgotten => &[Fault::BlackHole],
        _ => &[Fault::BlackHole, Fault::Forgotten],
    };
    if arriving.wait_for(|fault| *fault != Fault::BlackHole).await.is_err() {
        return;
    }
    let resets = *arriving.borrow() == Fault::Reset;
    let Some(mut server) = (if resets { None } else { TcpStream::connect(server).await.ok() }) else {
        let _ = client.set_zero_linger();
        return;
    };
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let mut resetting = fault.clone();
        tokio::select! {
            end = carry(from_client, to_server, fault.clone(), swallows, None) => end,
            end = carry(from_server, to_client, fault.clone(), swallows, Some(Fault::LoseAnswers)) => end,
            _ = resetting.wait_for(|fault| *fault == Fault::Reset) => End::Reset,
        }
    };
    if let End::Reset = end {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Carries what comes in one direction, until somebody closes; under one of the faults `swallows` it waits, under `losing` it is lost.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut fault: watch::Receiver<Fault>,
    swallows: &[Fault],
    losing: Option<Fault>,
) -> End {
    let mut chunk = [0; 8192];
    let mut lost = false;
    loop {
        let length = from.read(&mut chunk).await.unwrap_or(0);
        let present = *fault.borrow();
        if let Fault::Delay(delay) = present {
            tokio::time::sleep(delay).await;
        }
        let Ok(present) = fault.wait_for(|fault| !swallows.contains(fault)).await.map(|fault| *fault) else {
            return End::Closed;
        };
        // After a gap nothing makes sense any more.
        lost |= length > 0 && Some(present) == losing;
        let Some(arrived @ [_, ..]) = chunk.get(..length) else {
            return End::Closed;
        };
        if !lost && to.write_all(arrived).await.is_err() {
            return End::Closed;
        }
    }
}
