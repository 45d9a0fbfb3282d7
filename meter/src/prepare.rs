//! Accounts to measure with, on a deployment that will be thrown away.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::probe::Probe;

/// Opens an account for each number, with the codes that the development inbox shows.
///
/// # Errors
/// A number is refused, or there is no development inbox.
pub async fn prepare(client: &Client, numbers: &[String]) -> anyhow::Result<()> {
    for phone in numbers {
        succeed(&client.post(Probe::SignUp.path(), &Probe::SignUp.body(phone)).await?)?;
        let query = [("to", phone.as_str()), ("wait", "10")];
        let inbox = succeed(&client.read("/dev/inbox/messages", &query).await?)?;
        let code =
            inbox.pointer("/messages/0/code").and_then(Value::as_str).context("the inbox shows no code")?;
        let body = json!({ "phone": phone, "smsCode": code });
        succeed(&client.post(Probe::Confirm.path(), &body).await?)?;
    }
    Ok(())
}

fn succeed(answer: &Answer) -> anyhow::Result<Value> {
    anyhow::ensure!(answer.status.is_success(), "refused with {}: {}", answer.status, answer.body);
    Ok(serde_json::from_str(&answer.body)?)
}
