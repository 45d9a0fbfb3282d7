//! The odds of guessing a code, in sentences.

use vestibule_application::Settings;
use vestibule_domain::odds::{GuessBounds, grouped};

/// What `check` says of a guesser, under the present configuration.
pub(crate) fn describe(settings: &Settings, code_digits: u8, values_per_code: u32) -> [String; 2] {
    let bounds = GuessBounds {
        code_digits,
        values_per_code,
        rules: &settings.registration,
        quotas: &settings.quotas,
        paid_messages: settings.spending.most_messages(),
    };
    [
        format!(
            "a guesser gets one number's code right within a day: {} from one block of addresses, {} from many",
            bounds.one_number(1),
            bounds.one_number(u32::MAX),
        ),
        format!(
            "a botnet gets at least one of all codes right within a day: {} by the wrong codes that everyone may type, {} with the \
             first guess at each of {} codes",
            bounds.all_numbers_after_the_first(),
            bounds.all_numbers(),
            grouped(bounds.codes()),
        ),
    ]
}
