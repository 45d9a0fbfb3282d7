//! Settings of the service for tests and measurements on one machine: names below `VESTIBULE__`, and values.

/// Under these nobody meets a limit of an address, a block, a device or everyone.
pub fn ample_limits() -> impl Iterator<Item = (String, String)> {
    let steps = ["SIGNUP", "RESENDS", "WRONG_CODES", "WRONG_PASSWORDS", "RESETS", "MAILS", "KEYED_REQUESTS"];
    let scopes = ["_PER_DEVICE", "_PER_IP", "_PER_BLOCK", ""];
    let names =
        steps.into_iter().flat_map(move |step| scopes.map(|scope| format!("LIMITS__{step}{scope}_PER_HOUR")));
    names.map(|name| (name, "1000000".to_owned()))
}

/// Under these a password costs next to nothing to hash, for loads that are on something else.
pub fn cheap_hashing() -> impl Iterator<Item = (String, String)> {
    let settings = [("MEMORY_KIB", "64"), ("ITERATIONS", "1"), ("THREADS", "1")];
    settings.into_iter().map(|(name, value)| (format!("HASHING__{name}"), value.to_owned()))
}
