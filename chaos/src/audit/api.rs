//! What the API shows.

use std::time::Duration;

use anyhow::bail;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use vestibule_testkit::fleet::Fleet;

use super::database::Account;

const PATIENCE: Duration = Duration::from_secs(6);

/// How often an answer is asked for. Everything runs again, so the second time is an exception.
const TRIES: u32 = 5;

/// What a person's token shows.
pub(super) enum Seen {
    Account(Shown),
    Nothing { status: StatusCode },
}

/// An account from outside.
pub(super) struct Shown {
    profile: Value,
    kyc: Value,
}

impl PartialEq<Account> for Shown {
    fn eq(&self, account: &Account) -> bool {
        let profile = |member: &str| self.profile.get(member)?.as_str();
        profile("userId") == Some(&account.user)
            && profile("phone") == Some(&account.phone)
            && profile("email") == account.email.as_deref()
            && self.profile.get("confirmedEmail").and_then(Value::as_bool) == Some(account.email_confirmed)
            && profile("residenceStreet") == account.street.as_deref()
            && self.kyc.get("kycLevel").and_then(Value::as_str) == Some(&account.kyc)
    }
}

pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder().timeout(PATIENCE).build()
}

pub(super) async fn read(client: &Client, fleet: &Fleet, token: &str) -> anyhow::Result<Seen> {
    let profile = match get(client, fleet, "/v2/customer/profile", token).await? {
        Ok(profile) => profile,
        Err(status) => return Ok(Seen::Nothing { status }),
    };
    match get(client, fleet, "/v2/customer/kyc/data", token).await? {
        Ok(kyc) => Ok(Seen::Account(Shown { profile, kyc })),
        Err(status) => Ok(Seen::Nothing { status }),
    }
}

/// The body of a good answer, or the status of a refusal.
async fn get(
    client: &Client,
    fleet: &Fleet,
    path: &str,
    token: &str,
) -> anyhow::Result<Result<Value, StatusCode>> {
    for _ in 0..TRIES {
        let Some((_, url)) = fleet.next() else {
            bail!("no instance runs");
        };
        let answer = client.get(format!("{url}{path}")).bearer_auth(token).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => {
                return Ok(Ok(serde_json::from_str(&answer.text().await?)?));
            }
            Ok(answer) if answer.status().is_client_error() => return Ok(Err(answer.status())),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
    bail!("{path} is not answered")
}
