//! What `vestibule guard report` prints, as far as it is compared with what was seen from outside.

use anyhow::Context as _;
use vestibule_domain::spending::Money;

/// Its last row: all countries and providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sent: u64,
    pub(super) confirmed: u64,
    pub(super) cost: Money,
    pub(super) blocked: u64,
    pub(super) spared: Money,
}

impl Told {
    pub(super) fn read(report: &str) -> anyhow::Result<Self> {
        let row = report.lines().find(|line| line.starts_with("all ")).context("no row of all")?;
        // The share has a space in it.
        let words: Vec<_> = row.split_whitespace().filter(|word| *word != "%").collect();
        let [_, sent, confirmed, _, cost, blocked, _, spared] = words[..] else {
            anyhow::bail!("a row of another form: {row}");
        };
        Ok(Self {
            sent: sent.parse()?,
            confirmed: confirmed.parse()?,
            cost: Money::parse(cost)?,
            blocked: blocked.parse()?,
            spared: Money::parse(spared)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
The guard is enforcing. Costs are estimates by price, in USD.

COUNTRY  PROVIDER           SENT  CONFIRMED   SHARE          COST    BLOCKED   OBSERVED        SPARED
GB       -                     0          0       -          0.00       1234          0         74.04
GB       twilio              652        448    68 %         39.12          0          0          0.00
all                          652        448    68 %         39.12       1234          0         74.04

stopped: code:range:44730555: 100 % of 50 codes are on their way or lost
";

    #[test]
    fn the_row_of_all_is_read() {
        let money = |text| Money::parse(text).unwrap();
        let told =
            Told { sent: 652, confirmed: 448, cost: money("39.12"), blocked: 1234, spared: money("74.04") };
        assert_eq!(Told::read(REPORT).unwrap(), told);
    }

    #[test]
    fn a_report_without_it_is_none() {
        assert!(Told::read("").is_err());
        assert!(Told::read("all 1 2 3").is_err());
    }
}
