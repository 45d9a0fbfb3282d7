//! Commands about one account.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;
use vestibule_application::Application;
use vestibule_domain::audit::Fact;
use vestibule_domain::{PhoneNumber, Standing, UserId};

use crate::config::Config;
use crate::wiring;

/// Which account is meant.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Account {
    /// Its phone number.
    #[arg(long)]
    phone: Option<String>,
    /// Its `userId`.
    #[arg(long)]
    user: Option<Uuid>,
}

#[derive(Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    account: Account,
    /// How many lines at most.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Account {
    pub(crate) async fn block(&self, config: &Config) -> anyhow::Result<()> {
        self.stand(config, Standing::Blocked, "is blocked; its sessions have ended").await
    }

    pub(crate) async fn unblock(&self, config: &Config) -> anyhow::Result<()> {
        self.stand(config, Standing::Good, "is not blocked").await
    }

    async fn stand(&self, config: &Config, standing: Standing, said: &str) -> anyhow::Result<()> {
        let application = wiring::use_cases(config).await?;
        let user = self.find(&application).await?;
        application.set_standing(user, standing).await?;
        writeln!(std::io::stdout(), "{user}  {said}")?;
        Ok(())
    }

    async fn find(&self, application: &Application) -> anyhow::Result<UserId> {
        match (self.user, &self.phone) {
            (Some(user), _) => Ok(UserId::new(user)),
            (None, Some(phone)) => Ok(application.user_of(&parse(application, phone)?).await?),
            (None, None) => anyhow::bail!("--phone or --user is needed"),
        }
    }
}

impl Audit {
    pub(crate) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let application = wiring::use_cases(config).await?;
        let facts = match (self.account.user, &self.account.phone) {
            (Some(user), _) => application.facts_of_user(UserId::new(user), self.limit).await?,
            (None, Some(phone)) => {
                application.facts_of_number(&parse(&application, phone)?, self.limit).await?
            }
            (None, None) => anyhow::bail!("--phone or --user is needed"),
        };
        let mut out = std::io::stdout().lock();
        if !self.json {
            writeln!(
                out,
                "{:<24}  {:<20}  {:<16}  {:<36}  {:<36}  {:<8}  ADDRESS",
                "TIME", "EVENT", "PHONE", "USER", "SESSION", "DEVICE"
            )?;
        }
        facts
            .iter()
            .try_for_each(|fact| if self.json { json(&mut out, fact) } else { line(&mut out, fact) })?;
        Ok(())
    }
}

fn parse(application: &Application, phone: &str) -> anyhow::Result<PhoneNumber> {
    application.phone_number(phone).context("--phone")
}

fn line(out: &mut impl std::io::Write, fact: &Fact) -> std::io::Result<()> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    writeln!(
        out,
        "{:<24}  {:<20}  {:<16}  {:<36}  {:<36}  {:<8}  {}",
        time(fact),
        fact.event.as_str(),
        fact.phone,
        or_dash(fact.user.map(|user| user.to_string())),
        or_dash(fact.session.map(|session| session.to_string())),
        or_dash(device(fact).map(|device| device.chars().take(8).collect())),
        or_dash(fact.address.map(|address| address.ip().to_string())),
    )
}

fn json(out: &mut impl std::io::Write, fact: &Fact) -> std::io::Result<()> {
    let fact = serde_json::json!({
        "at": time(fact),
        "event": fact.event.as_str(),
        "phone": fact.phone,
        "userId": fact.user.map(|user| user.to_string()),
        "session": fact.session.map(|session| session.to_string()),
        "device": device(fact),
        "address": fact.address.map(|address| address.ip().to_string()),
    });
    writeln!(out, "{fact}")
}

/// The device by its hash, which is all that is kept of it.
fn device(fact: &Fact) -> Option<String> {
    fact.device.map(|device| hex::encode(device.digest()))
}

/// What storage has kept can be written.
fn time(fact: &Fact) -> String {
    fact.at.format(&Rfc3339).unwrap_or_default()
}
