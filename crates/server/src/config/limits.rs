//! Rates.

use std::time::Duration;

use serde::Deserialize;
use vestibule_domain::limits::{Quotas, StepQuotas};
use vestibule_domain::quota::Quota;

section! {
    /// How often what may be asked.
    Limits {
        login_attempts: u32 = 10,
        login_lock_seconds: u64 = 900,
        signup_per_phone_per_day: u32 = 10,
        guesses_per_phone_per_day: u32 = 30,
        blocks_per_phone_per_day: u32 = 20,
        mails_per_account_per_day: u32 = 10,
        signup_per_device_per_hour: Rate = Rate(10),
        signup_per_ip_per_hour: Rate = Rate(30),
        signup_per_block_per_hour: Rate = Rate(300),
        signup_per_hour: Rate = Rate(20_000),
        resends_per_device_per_hour: Rate = Rate(20),
        resends_per_ip_per_hour: Rate = Rate(60),
        resends_per_block_per_hour: Rate = Rate(600),
        resends_per_hour: Rate = Rate(20_000),
        wrong_codes_per_device_per_hour: Rate = Rate(30),
        wrong_codes_per_ip_per_hour: Rate = Rate(60),
        wrong_codes_per_block_per_hour: Rate = Rate(600),
        wrong_codes_per_hour: Rate = Rate(1000),
        wrong_passwords_per_device_per_hour: Rate = Rate(50),
        wrong_passwords_per_ip_per_hour: Rate = Rate(100),
        wrong_passwords_per_block_per_hour: Rate = Rate(1000),
        wrong_passwords_per_hour: Rate = Rate(50_000),
        resets_per_device_per_hour: Rate = Rate(10),
        resets_per_ip_per_hour: Rate = Rate(30),
        resets_per_block_per_hour: Rate = Rate(300),
        resets_per_hour: Rate = Rate(20_000),
        mails_per_device_per_hour: Rate = Rate(20),
        mails_per_ip_per_hour: Rate = Rate(60),
        mails_per_block_per_hour: Rate = Rate(600),
        mails_per_hour: Rate = Rate(20_000),
        keyed_requests_per_device_per_hour: Rate = Rate(300),
        keyed_requests_per_ip_per_hour: Rate = Rate(1_200),
        keyed_requests_per_block_per_hour: Rate = Rate(12_000),
        keyed_requests_per_hour: Rate = Rate(100_000),
    }
}

impl Limits {
    /// The budgets that are not a phone's or an account's own.
    pub(crate) fn quotas(&self) -> Quotas {
        let step = |device: Rate, address: Rate, block: Rate, everyone: Rate| StepQuotas {
            device: device.quota(),
            address: address.quota(),
            block: block.quota(),
            everyone: everyone.quota(),
        };
        Quotas {
            sign_up: step(
                self.signup_per_device_per_hour,
                self.signup_per_ip_per_hour,
                self.signup_per_block_per_hour,
                self.signup_per_hour,
            ),
            resend: step(
                self.resends_per_device_per_hour,
                self.resends_per_ip_per_hour,
                self.resends_per_block_per_hour,
                self.resends_per_hour,
            ),
            code_guess: step(
                self.wrong_codes_per_device_per_hour,
                self.wrong_codes_per_ip_per_hour,
                self.wrong_codes_per_block_per_hour,
                self.wrong_codes_per_hour,
            ),
            password_guess: step(
                self.wrong_passwords_per_device_per_hour,
                self.wrong_passwords_per_ip_per_hour,
                self.wrong_passwords_per_block_per_hour,
                self.wrong_passwords_per_hour,
            ),
            reset: step(
                self.resets_per_device_per_hour,
                self.resets_per_ip_per_hour,
                self.resets_per_block_per_hour,
                self.resets_per_hour,
            ),
            mail: step(
                self.mails_per_device_per_hour,
                self.mails_per_ip_per_hour,
                self.mails_per_block_per_hour,
                self.mails_per_hour,
            ),
            keyed_request: step(
                self.keyed_requests_per_device_per_hour,
                self.keyed_requests_per_ip_per_hour,
                self.keyed_requests_per_block_per_hour,
                self.keyed_requests_per_hour,
            ),
        }
    }
}

/// So many in an hour; at most so many that a unit is some milliseconds, as moments are kept to the millisecond.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
pub(crate) struct Rate(u32);

impl TryFrom<u32> for Rate {
    type Error = &'static str;

    fn try_from(rate: u32) -> Result<Self, Self::Error> {
        if (1..=1_000_000).contains(&rate) { Ok(Self(rate)) } else { Err("must be 1 to 1000000") }
    }
}

impl Rate {
    pub(crate) const fn quota(self) -> Quota {
        Quota { burst: self.0, period: Duration::from_hours(1) }
    }
}
