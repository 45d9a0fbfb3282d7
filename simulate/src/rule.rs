//! The rule of the guard against pumping, as the service has it where nothing else is configured.

use vestibule_domain::pumping::{Mode, PumpingGuard};

/// The rule that the configuration reference gives, enforced.
pub(crate) fn default_rule() -> PumpingGuard {
    PumpingGuard { mode: Mode::Enforce, ..PumpingGuard::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_one_that_is_documented() {
        let reference = include_str!("../../docs/configuration.md");
        let rule = default_rule();
        for (key, value) in [
            ("min_confirmed_percent", u32::from(rule.norm.confirmed_percent)),
            ("unconfirmed_per_range", rule.unconfirmed_per_range),
            ("unconfirmed_per_block", rule.unconfirmed_per_block),
            ("unconfirmed_per_country", rule.norm.unconfirmed),
            ("forget_hours", u32::try_from(rule.forget_after.as_secs() / 3600).unwrap()),
        ] {
            assert!(reference.contains(&format!("\n| `guard.{key}` | {value} |")), "{key}");
        }
    }
}
