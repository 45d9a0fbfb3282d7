//! Keeps a link to the SMSC: opens it, binds, and does so again after a loss, with pauses that grow.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use vestibule_port_sms::DeliveryReports;

use crate::doubts::Doubts;
use crate::link::{Link, Loss, Memory, Order, Stream};
use crate::settings::{Account, Endpoint};
use crate::unplaced::Unplaced;

/// An SMSC that takes longer to reach is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause after the first loss, at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How the session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Messages can be submitted.
    Bound,
    /// They cannot, for a reason that names the SMSC's status if it gave one.
    NotBound(String),
    /// It is over.
    Stopped,
}

/// The wish that the session ends. Whoever can wish it being gone is one, too.
#[derive(Clone)]
pub(crate) struct Stop(pub(crate) watch::Receiver<bool>);

impl Stop {
    /// Waits for the wish.
    pub(crate) async fn requested(&mut self) {
        let _ = self.0.wait_for(|is_wanted| *is_wanted).await;
    }
}

/// Runs until it shall stop.
pub(crate) async fn run(
    account: Arc<Account>,
    reports: Arc<dyn DeliveryReports>,
    mut orders: mpsc::Receiver<Order>,
    state: watch::Sender<State>,
    mut stop: Stop,
) {
    let mut failures = 0;
    let doubts = Doubts::new(Arc::clone(&reports), account.timeout);
    let mut memory = Memory { unplaced: Unplaced::default(), doubts };
    loop {
        let link = tokio::select! {
            link = open(&account, &reports, &mut memory) => link,
            () = refuse(&mut orders, &state) => break,
            () = stop.requested() => break,
        };
        let reason = match link {
            Ok(link) => {
                tracing::info!("bound to the SMSC");
                state.send_replace(State::Bound);
                let bound_at = Instant::now();
                let loss = link.serve(&mut orders, &mut stop).await;
                if loss == Loss::Stopped {
                    break;
                }
                // A link that breaks as soon as it is up must not be opened again and again without a pause.
                if bound_at.elapsed() >= LONGEST_PAUSE {
                    failures = 0;
                }
                loss.to_string()
            }
            Err(reason) => reason,
        };
        let pause = pause(failures, account.jitter_seed);
        failures = failures.saturating_add(1);
        tracing::warn!(reason, pause_ms = pause.as_millis(), "not bound to the SMSC");
        state.send_replace(State::NotBound(reason));
        tokio::select! {
            () = sleep(pause) => {}
            () = refuse(&mut orders, &state) => break,
            () = stop.requested() => break,
        }
    }
    orders.close();
    while let Some(order) = orders.recv().await {
        order.refuse("the session with the SMSC has ended");
    }
    let _ = timeout(account.timeout, async { while memory.doubts.told().await {} }).await;
    state.send_replace(State::Stopped);
}

/// Refuses all that would be sent; returns when nobody can send any more.
async fn refuse(orders: &mut mpsc::Receiver<Order>, state: &watch::Sender<State>) {
    while let Some(order) = orders.recv().await {
        match &*state.borrow() {
            State::NotBound(reason) => order.refuse(&format!("not bound to the SMSC: {reason}")),
            State::Bound | State::Stopped => order.refuse("not bound to the SMSC"),
        }
    }
}

async fn open<'a>(
    account: &'a Account,
    reports: &'a Arc<dyn DeliveryReports>,
    memory: &'a mut Memory,
) -> Result<Link<'a>, String> {
    let binding = async {
        let stream = connect(&account.endpoint).await?;
        Link::bind(stream, account, reports, memory).await
    };
    timeout(account.timeout, binding)
        .await
        .unwrap_or_else(|_| Err("the SMSC did not answer the bind".to_owned()))
}

async fn connect(endpoint: &Endpoint) -> Result<Box<dyn Stream>, String> {
    let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let stream = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Err("no connection".to_owned()),
        Err(_) => return Err("the connection timed out".to_owned()),
    };
    // PDUs are small, and each is waited for.
    stream.set_nodelay(true).map_err(|_| "no connection")?;
    match &endpoint.tls {
        None => Ok(Box::new(stream)),
        Some((connector, name)) => secure(connector, name.clone(), stream).await,
    }
}

async fn secure(
    connector: &TlsConnector,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, String> {
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        // What TLS found names a certificate at most.
        Err(error) => Err(format!("no secure connection: {error}")),
    }
}

/// Twice as long after each failure, and of that a part between the half and the whole.
fn pause(failures: u32, seed: u64) -> Duration {
    let whole =
        FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
    let share = u32::try_from(scatter(seed.wrapping_add(u64::from(failures))) >> 48).unwrap_or_default();
    whole / 2 + whole / 2 * share / (1 << 16)
}

/// `SplitMix64` (Steele, Lea and Flood 2014): neighbouring numbers go far apart.
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        for seed in [0, 1, u64::MAX] {
            for failures in [0, 1, 2, 6, 31, 32, u32::MAX] {
                let whole = Duration::from_millis(500)
                    .saturating_mul(2_u32.saturating_pow(failures))
                    .min(LONGEST_PAUSE);
                let pause = pause(failures, seed);
                assert!(pause >= whole / 2 && pause <= whole, "{seed} {failures} {pause:?}");
            }
        }
        let pauses: std::collections::BTreeSet<_> = (1000..1010).map(|seed| pause(0, seed)).collect();
        assert_eq!(pauses.len(), 10);
    }
}
