//! Serves until the machine says stop.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use anyhow::Context as _;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use vestibule_application::{Application, Dispatcher, ToldOfLimits};
use vestibule_domain::MerchantId;
use vestibule_domain::spending::Budget;
use vestibule_http::{Http, Partners, Services, Underway};
use vestibule_port_security::Clock as _;

use crate::commands::UNLIMITED_BILL;
use crate::config::{Config, Environment};
use crate::machine::SystemClock;
use crate::metrics::{self, Metrics};
use crate::{countries, inbox_routes, wiring};

/// How often storage is swept of what no longer matters.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// How often it is looked how much money is left, and how many messages wait.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// How often it is recorded what the guard against pumping has held back.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// How long the start waits for the session with an SMSC, so that the first messages find it.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn serve(config: &Config) -> anyhow::Result<()> {
    let warming = tokio::task::spawn_blocking(vestibule_domain::warm_up);
    let listener = bind("http.listen", config.http.listen)?;
    let admin = bind("admin.listen", config.admin.listen)?;
    let (address, admin_address) = (listener.local_addr()?, admin.local_addr()?);
    let mut config = config.clone();
    // Port 0 asks for any port; links must name the one that was given.
    config.http.listen = address;
    let config = &config;
    let metrics = Metrics::record(SystemClock.now())?;
    let service = wiring::wire(config).await?;

    let http = Data::new(Http {
        application: Arc::clone(&service.application),
        wording: service.wording,
        trusted_proxies: config.http.trusted_proxies.clone().unwrap_or_default(),
        callbacks: service.callbacks,
        issuer: config.issuer(),
        audience: config.audience(),
        partners: partners(config),
        services: services(config),
        underway: Underway::default(),
    });
    let carrying_out = http.clone();
    let inbox = service.inbox.map(Data::from);
    let closing_inbox = inbox.clone();
    let has_inbox = inbox.is_some();
    let workers = config.http.workers.unwrap_or_else(wiring::cores);
    let public = vestibule_http::serve(listener, workers, http.clone(), move |routes| {
        vestibule_http::public(routes);
        if let Some(inbox) = &inbox {
            inbox_routes::register(routes, inbox.clone());
        }
    })?;
    let (shown, look) = (metrics.clone(), service.look);
    let admin = vestibule_http::serve(admin, 1, http, move |routes| {
        metrics::register(routes, shown.clone(), Arc::clone(&look));
        vestibule_http::health(routes);
    })?;
    if let Some(smpp) = &service.smpp
        && let Err(error) = smpp.wait_until_bound(BIND_PATIENCE).await
    {
        tracing::warn!(%error, "messages wait, or go by another provider");
    }
    let (stop, stopped) = watch::channel(false);
    let adding_up = tokio::spawn(metrics.add_up());
    let watching = tokio::spawn(watch(Arc::clone(&service.application), Arc::clone(&service.dispatcher)));
    let mut dispatching = tokio::spawn(service.dispatcher.run(stopped));
    let application = Arc::clone(&service.application);
    let recording = tokio::spawn(record_held_back(Arc::clone(&application)));
    let sweeping = tokio::spawn(sweep(service.application));
    let (follow_keys, follow_countries) = (service.follow_keys, service.follow_countries);
    let following = tokio::spawn(async { tokio::join!(follow_keys.run(), follow_countries.run()) });
    warming.await?;

    warn_of(config, &application.settings.spending);
    countries::describe(config)?.iter().for_each(|sentence| tracing::info!("{sentence}"));
    tracing::info!(%address, admin = %admin_address, "serving");
    if config.environment == Environment::Development {
        // Nobody may be reading; that is no reason not to serve.
        let _ = greet(address, has_inbox);
    }
    let (public_handle, admin_handle) = (public.handle(), admin.handle());
    let drain = Duration::from_secs(config.http.drain_seconds);
    let stopping = tokio::spawn(async move {
        let signal = wait_for_signal().await;
        // Balancers look whether it is ready, and send it nothing more.
        carrying_out.underway.leave();
        tracing::info!(signal, ?drain, "stopping");
        tokio::select! {
            () = tokio::time::sleep(drain) => {}
            signal = wait_for_signal() => tracing::info!(signal, "stopping at once"),
        }
        // Whoever follows the inbox would wait on; so would the end.
        if let Some(inbox) = closing_inbox {
            inbox.close();
        }
        // Those of clients that have gone first: a server that stops does not know of them.
        carrying_out.underway.end().await;
        // Requests that have begun are finished; their messages stay in the outbox if they don't leave in time.
        tokio::join!(public_handle.stop(true), admin_handle.stop(true));
    });
    tokio::select! {
        served = async { tokio::try_join!(public, admin) } => {
            served?;
        }
        // Sign-ups would be taken whose codes nobody sends.
        _ = &mut dispatching => anyhow::bail!("the dispatcher has ended, see the log"),
    }
    stopping.abort();
    sweeping.abort();
    watching.abort();
    adding_up.abort();
    recording.abort();
    following.abort();
    stop.send_replace(true);
    dispatching.await?;
    if let Err(error) = application.record_held_back().await {
        tracing::warn!(%error, "cannot record what was held back last");
    }
    if let Some(smpp) = service.smpp {
        smpp.stop().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Tells the operator of settings that may not be meant so.
fn warn_of(config: &Config, spending: &Budget) {
    if config.secrets.numbers_key_is_lost {
        tracing::warn!("numbers that were used under a lost key are free again, unless an account has them");
    }
    let named = config.test_numbers.len();
    if named > 0 {
        tracing::warn!(named, "there are test numbers, whose codes are fixed: `vestibule check` lists them");
    }
    for provider in config.spending.unused_providers(&config.sms) {
        tracing::warn!(provider, "`spending.providers` names a provider that is not in use");
    }
    let is_unlimited = spending.worst_day().is_none();
    if config.environment == Environment::Production && is_unlimited {
        tracing::warn!(
            "no ceiling bounds what messages may cost: `vestibule check` prints `{UNLIMITED_BILL}`"
        );
    }
    if config.environment == Environment::Development && config.reaches_others() {
        tracing::warn!(
            "this is a development environment, and yet others can connect or messages leave: keys make themselves, and the guard only observes. \
             Set `environment` for production"
        );
    }
}

fn partners(config: &Config) -> Partners {
    let partners = Partners::new(config.partners.iter().filter_map(|(id, partner)| {
        let secrets = partner.secrets.iter().flatten().map(ExposeSecret::expose_secret);
        Some((MerchantId::parse(id)?, secrets))
    }));
    if config.http.require_merchant { partners.required() } else { partners }
}

fn services(config: &Config) -> Services {
    let services = &config.oauth.services;
    Services::new(services.iter().map(|(name, secret)| (name.as_str(), secret.expose_secret())))
}

fn bind(key: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("{key}: cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn wait_for_signal() -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Forgets what no longer matters, a batch at a time, so that nobody waits long for a lock.
async fn sweep(application: Arc<Application>) {
    let mut interval = tokio::time::interval(SWEEP_EVERY);
    loop {
        interval.tick().await;
        match application.sweep().await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "swept"),
            Err(error) => tracing::warn!(%error, "cannot sweep"),
        }
    }
}

/// Writes down what the guard against pumping has held back.
async fn record_held_back(application: Arc<Application>) {
    let mut interval = tokio::time::interval(RECORD_EVERY);
    loop {
        interval.tick().await;
        if let Err(error) = application.record_held_back().await {
            tracing::warn!(%error, "cannot record what was held back");
        }
    }
}

/// Tells the operator of ceilings that come near, of budgets of everyone's that are spent, and of what waits in the outbox.
async fn watch(application: Arc<Application>, dispatcher: Arc<Dispatcher>) {
    let mut interval = tokio::time::interval(WATCH_EVERY);
    let mut told_of_limits = ToldOfLimits::default();
    loop {
        interval.tick().await;
        if let Err(error) = application.watch_spending().await {
            tracing::warn!(%error, "cannot read what was spent");
        }
        if let Err(error) = application.watch_limits(&mut told_of_limits).await {
            tracing::warn!(%error, "cannot read what is left of everyone's budgets");
        }
        if let Err(error) = dispatcher.watch_backlog().await {
            tracing::warn!(%error, "cannot read how many messages wait");
        }
    }
}

/// What a developer wants to know first.
fn greet(address: SocketAddr, has_inbox: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nVestibule listens on http://{address}")?;
    if has_inbox {
        writeln!(out, "Messages appear on   http://{address}/dev/inbox")?;
    }
    writeln!(
        out,
        "\nSign up with:\n\n  curl -s http://{address}/v2/mobile/signup -H 'Content-Type: application/json' \\\n    \
         -d '{{\"phone\":\"+447871234567\",\"password\":\"correct-horse-7\"}}'\n"
    )?;
    out.flush()
}
