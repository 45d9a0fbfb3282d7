/// Settings of the service under which no test or measurement on one machine meets a limit of an address, a block, a device or
/// everyone: names below `VESTIBULE__`, and values.
pub fn ample_limits() -> impl Iterator<Item = (String, String)> {
    let steps = ["SIGNUP", "RESENDS", "WRONG_CODES", "WRONG_PASSWORDS", "RESETS", "MAILS", "KEYED_REQUESTS"];
    let scopes = ["_PER_DEVICE", "_PER_IP", "_PER_BLOCK", ""];
    let names =
        steps.into_iter().flat_map(move |step| scopes.map(|scope| format!("LIMITS__{step}{scope}_PER_HOUR")));
    names.map(|name| (name, "1000000".to_owned()))
}
