//! Budgets, one row each; but for everyone's, which all commits charge, a partner's, which all of that partner's do, and a country's, which all do that send
//! a code there or have one back (but not its reserve, which few take from). Those are kept in
//! parts, each with its share of the quota, so that as many commits at once wait for the disk beside each other. A charge asks one part, and where that has run out the one that
//! has most left: no unit is taken twice, and none is refused while any part has one. A tally corrects the part whose turn it is, whatever is left of it.

use std::collections::HashMap;
use std::time::Duration;

use diesel::data_types::PgInterval;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Interval, Text, Timestamptz};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::{OffsetDateTime, UtcDateTime};
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Tally, Unit};
use vestibule_domain::quota::Quota;
use vestibule_metrics::objected;
use vestibule_port_storage::{Budgets, CommitError, Level};

use crate::connection::unavailable;
use crate::rows::{moment, stamp};
use crate::schema::limits;
use crate::statement::Prepared;

/// The parts of a budget that is kept in parts.
const PARTS: i16 = 16;

/// The keys of budgets that stand for themselves, or for all parts.
pub(crate) const WHOLE_OR_FIRST: &str = "(key NOT LIKE '%#%' OR key LIKE '%#0')";

/// The key that a part of a budget stands under.
pub(crate) fn key(limit: &Limit, part: i16) -> String {
    if parts(limit) == 1 { limit.to_string() } else { format!("{limit}#{part}") }
}

/// The limit that stands under the key, whole or in parts.
pub(crate) fn parse(key: &str) -> Option<Limit> {
    Limit::parse(key.split_once('#').map_or(key, |(limit, _)| limit))
}

/// In how many parts the budget is kept.
pub(crate) const fn parts(limit: &Limit) -> i16 {
    match limit.scope {
        Scope::Country(_) if matches!(limit.step, Step::ReserveCode) => 1,
        Scope::Merchant(_) | Scope::Country(_) | Scope::Everyone => PARTS,
        Scope::Device(_) | Scope::Address(_) | Scope::Block(_) | Scope::Account(_) | Scope::Range(_) => 1,
    }
}

/// Which part of each budget a commit asks.
pub(crate) struct Asked {
    /// Says which, where nothing is chosen; another in each commit.
    turn: u64,
    chosen: HashMap<Limit, i16>,
}

impl Asked {
    /// The parts of the commit of this number. Commits of a kind may come every second or fourth time, and those that return units in between: so the
    /// parts do not follow the numbers, but multiples of the golden section, which meet every part as often whatever the stride.
    pub(crate) fn in_turn(number: usize) -> Self {
        const GOLDEN_SECTION: u64 = 0x9e37_79b9_7f4a_7c15;
        let turn = u64::try_from(number).unwrap_or(0).wrapping_mul(GOLDEN_SECTION);
        Self { turn, chosen: HashMap::new() }
    }

    /// One that has units, if the quota has any.
    fn part(&self, limit: &Limit, quota: &Quota) -> i16 {
        if let Some(part) = self.chosen.get(limit) {
            return *part;
        }
        let with_units = quota.burst.min(parts(limit).unsigned_abs().into());
        // Less than as many: the turn is a fraction of all that it could be.
        let part = (u128::from(self.turn) * u128::from(with_units)) >> u64::BITS;
        part.try_into().unwrap_or(0)
    }
}

/// What a part has of the quota: its share of the burst grows back in the whole period.
fn share(quota: Quota, limit: &Limit, part: i16) -> Quota {
    let (part, parts): (u32, u32) = (part.unsigned_abs().into(), parts(limit).unsigned_abs().into());
    let burst = quota.burst / parts + u32::from(part < quota.burst % parts);
    Quota { burst, ..quota }
}

/// The charge of one part.
fn of_part(charge: &Charge, part: i16) -> Charge {
    Charge { quota: share(charge.quota, &charge.limit, part), ..*charge }
}

/// The parts that were ever charged, by their keys.
async fn charged(
    connection: &AsyncPgConnection,
    of: impl Iterator<Item = &Limit>,
) -> QueryResult<HashMap<String, UtcDateTime>> {
    let keys: Vec<_> = of.flat_map(|limit| (0..parts(limit)).map(|part| key(limit, part))).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let charged = limits::table.filter(limits::key.eq_any(keys)).load(&mut &*connection).await?;
    Ok(charged.into_iter().map(|(key, full_at): (String, OffsetDateTime)| (key, moment(full_at))).collect())
}

/// What is left.
pub(crate) async fn load(connection: &AsyncPgConnection, of: &[Limit]) -> QueryResult<Budgets> {
    let charged = charged(connection, of.iter()).await?;
    let level = |limit: &Limit| {
        let parts: Vec<_> = (0..parts(limit)).map(|part| charged.get(&key(limit, part)).copied()).collect();
        parts.iter().any(Option::is_some).then_some((*limit, Level { parts }))
    };
    Ok(Budgets(of.iter().filter_map(level).collect()))
}

/// Budgets of which every part is used, those of a step that have least left in the part that has most. Those that a newer version knows are passed over.
const IN_USE: &str = "
    SELECT split_part(key, '#', 1) AS key, min(full_at) AS full_at FROM limits
    WHERE key LIKE $1 AND full_at > $2
    GROUP BY 1 HAVING count(*) = CASE WHEN min(key) LIKE '%#%' THEN $3 ELSE 1 END
    ORDER BY 2 DESC LIMIT $4";

#[derive(QueryableByName)]
struct InUse {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Timestamptz)]
    full_at: OffsetDateTime,
}

pub(crate) async fn in_use(
    connection: &AsyncPgConnection,
    step: Step,
    now: UtcDateTime,
    limit: u32,
) -> QueryResult<Budgets> {
    let query = sql_query(IN_USE)
        .bind::<Text, _>(format!("{}:%", step.as_str()))
        .bind::<Timestamptz, _>(stamp(now))
        .bind::<BigInt, _>(i64::from(PARTS))
        .bind::<BigInt, _>(i64::from(limit));
    let rows: Vec<InUse> = Prepared(query).load(&mut &*connection).await?;
    let level = |InUse { key, full_at }: InUse| {
        let limit = Limit::parse(&key)?;
        // As if all were as full as the fullest.
        let parts = (0..parts(&limit)).map(|_| Some(moment(full_at))).collect();
        Some((limit, Level { parts }))
    };
    Ok(Budgets(rows.into_iter().filter_map(level).collect()))
}

/// After a commit has found a budget empty: which part of each has a unit by now, or how long to wait for the first budget that has
/// none.
pub(crate) async fn with_units(
    connection: &AsyncPgConnection,
    charges: &[Charge],
    turn: usize,
) -> Result<Asked, CommitError> {
    let charged = charged(connection, charges.iter().map(|charge| &charge.limit)).await;
    let charged = charged.map_err(|error| CommitError::Unavailable(unavailable(&error)))?;
    let mut asked = Asked::in_turn(turn);
    for charge in charges {
        let decide = |part| {
            let full_at = charged.get(&key(&charge.limit, part)).copied();
            of_part(charge, part).decide(full_at).map(|_| (full_at, part))
        };
        let decided = || (0..parts(&charge.limit)).map(decide);
        let Some((_, part)) = decided().filter_map(Result::ok).min() else {
            let retry_after = decided().filter_map(Result::err).min().unwrap_or(Duration::ZERO);
            objected(charge.limit.step.as_str(), charge.limit.scope.kind());
            return Err(CommitError::LimitReached { retry_after });
        };
        asked.chosen.insert(charge.limit, part);
    }
    Ok(asked)
}

/// Charges and tallies in the order of their [places](OnBudget::place).
pub(crate) fn in_order(charges: &[Charge], tallies: &[Tally], asked: &Asked) -> Vec<OnBudget> {
    let charges = charges.iter().map(|charge| OnBudget::Charge(TakeUnit::new(charge, asked)));
    let tallies = tallies.iter().map(|tally| OnBudget::Tally(Correct::new(tally, asked)));
    let mut budgets: Vec<_> = charges.chain(tallies).collect();
    sort(&mut budgets);
    budgets
}

/// Puts them in the order of their [places](OnBudget::place).
pub(crate) fn sort(budgets: &mut [OnBudget]) {
    budgets.sort_by(|one, other| one.place().cmp(&other.place()));
}

/// What a commit does to one budget.
pub(crate) enum OnBudget {
    Charge(TakeUnit),
    Tally(Correct),
}

impl OnBudget {
    /// Where its row comes in the order that all commits keep, so that no two of them wait for each other: the narrowest first, so that who has spent
    /// its own holds nothing that it shares; and last those in parts, which many want, so that they are kept the shortest.
    fn place(&self) -> (bool, u8, &str) {
        let (Self::Charge(TakeUnit { key, width, .. }) | Self::Tally(Correct { key, width, .. })) = self;
        (key.contains('#'), *width, key)
    }
}

impl QueryFragment<Pg> for OnBudget {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self {
            Self::Charge(charge) => charge.walk_ast(out),
            Self::Tally(tally) => tally.walk_ast(out),
        }
    }
}

impl QueryId for OnBudget {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

/// The generic cell rate algorithm of `domain::quota` as one statement, so that no two charges see the same budget. Returns a
/// row when there was a unit to take.
pub(crate) struct TakeUnit {
    key: String,
    width: u8,
    now: OffsetDateTime,
    unit: PgInterval,
    /// How much of it is taken.
    taken: PgInterval,
    /// When the budget is full again after its first charge.
    after_one: OffsetDateTime,
    /// When it is full again after its last.
    after_all: OffsetDateTime,
}

impl TakeUnit {
    pub(crate) fn new(charge: &Charge, asked: &Asked) -> Self {
        let part = asked.part(&charge.limit, &charge.quota);
        let Charge { limit, quota, unit, now } = of_part(charge, part);
        let whole = micros(quota.unit());
        let taken = match unit {
            Unit::Taken => whole,
            Unit::Kept => 0,
        };
        Self {
            key: key(&limit, part),
            width: limit.scope.width(),
            now: stamp(now),
            unit: PgInterval::from_microseconds(whole),
            taken: PgInterval::from_microseconds(taken),
            after_one: after(now, taken),
            after_all: after(now, whole.saturating_mul(quota.burst.into())),
        }
    }

    fn after<'b>(&'b self, units: &'b PgInterval, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("greatest(limits.full_at, ");
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(") + ");
        out.push_bind_param::<Interval, _>(units)
    }
}

impl QueryFragment<Pg> for TakeUnit {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO limits (key, full_at) VALUES (");
        out.push_bind_param::<Text, _>(&self.key)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.after_one)?;
        out.push_sql(") ON CONFLICT (key) DO UPDATE SET full_at = ");
        self.after(&self.taken, out.reborrow())?;
        out.push_sql(" WHERE ");
        self.after(&self.unit, out.reborrow())?;
        out.push_sql(" <= ");
        out.push_bind_param::<Timestamptz, _>(&self.after_all)?;
        out.push_sql(" RETURNING key");
        Ok(())
    }
}

/// A tally of `domain::limits` as one statement. Returns a row in any case.
pub(crate) struct Correct {
    key: String,
    width: u8,
    now: OffsetDateTime,
    /// How much later the budget is full, or earlier.
    later: PgInterval,
    /// When it is full again if it was full before.
    after: OffsetDateTime,
    /// When it is full again if it is empty after.
    after_all: OffsetDateTime,
}

impl Correct {
    pub(crate) fn new(tally: &Tally, asked: &Asked) -> Self {
        let Tally { limit, quota, taken, returned_percent, now } = *tally;
        let part = asked.part(&limit, &quota);
        let quota = share(quota, &limit, part);
        let units = |units: u32| micros(quota.unit()).saturating_mul(units.into());
        let (later, all) = (units(taken).saturating_sub(units(returned_percent) / 100), units(quota.burst));
        Self {
            key: key(&limit, part),
            width: limit.scope.width(),
            now: stamp(now),
            later: PgInterval::from_microseconds(later),
            after: after(now, later.min(all)),
            after_all: after(now, all),
        }
    }
}

impl QueryFragment<Pg> for Correct {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO limits (key, full_at) VALUES (");
        out.push_bind_param::<Text, _>(&self.key)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.after)?;
        out.push_sql(") ON CONFLICT (key) DO UPDATE SET full_at = least(greatest(limits.full_at, ");
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(") + ");
        out.push_bind_param::<Interval, _>(&self.later)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.after_all)?;
        out.push_sql(") RETURNING key");
        Ok(())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn after(now: UtcDateTime, micros: i64) -> OffsetDateTime {
    let moment = stamp(now).checked_add(time::Duration::microseconds(micros));
    moment.unwrap_or_else(|| UtcDateTime::MAX.to_offset(time::UtcOffset::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule_domain::limits::AddressBlock;
    use vestibule_domain::{ClientAddress, Fingerprint};

    fn charge(burst: u32) -> Charge {
        Charge {
            limit: Limit { step: Step::SignUp, scope: Scope::Everyone },
            quota: Quota { burst, period: Duration::from_hours(1) },
            unit: Unit::Taken,
            now: UtcDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_parts_make_up_the_whole() {
        for burst in [1, 15, 16, 17, 1000, u32::MAX] {
            let shares = (0..PARTS).map(|part| u64::from(of_part(&charge(burst), part).quota.burst));
            assert_eq!(shares.sum::<u64>(), u64::from(burst));
        }
    }

    #[test]
    fn a_limit_is_found_again_by_the_key_of_any_part() {
        let limit = charge(1).limit;
        assert_eq!(parse(&key(&limit, 15)), Some(limit));
        let alone =
            Limit { step: Step::Mail, scope: Scope::Address(ClientAddress::of([192, 0, 2, 1].into())) };
        assert_eq!((key(&alone, 0), parse(&key(&alone, 0))), (alone.to_string(), Some(alone)));
    }

    #[test]
    fn the_narrowest_budget_is_asked_first_and_those_in_parts_last() {
        let address = ClientAddress::of([192, 0, 2, 1].into());
        let scopes = [
            Scope::Device(Fingerprint::of("some").unwrap()),
            Scope::Address(address),
            Scope::Block(AddressBlock::of(address)),
            Scope::Everyone,
        ];
        let charges = scopes.map(|scope| Charge { limit: Limit { step: Step::SignUp, scope }, ..charge(1) });
        let mut reversed = charges;
        reversed.reverse();
        let keys = |charges: &[Charge]| {
            let budgets = in_order(charges, &[], &Asked::in_turn(0));
            let key = |budget: &OnBudget| budget.place().2.to_owned();
            budgets.iter().map(key).collect::<Vec<_>>()
        };
        let expected = charges.map(|charge| key(&charge.limit, 0));
        assert_eq!((keys(&charges), keys(&reversed)), (expected.to_vec(), expected.to_vec()));
    }

    #[test]
    fn commits_of_a_kind_meet_every_part_whatever_their_stride() {
        let Charge { limit, quota, .. } = charge(1000);
        for stride in [1, 2, 4, 16, 17] {
            let mut met = [0; 16];
            for turn in (0..1600).map(|number| number * stride) {
                met[usize::try_from(Asked::in_turn(turn).part(&limit, &quota)).unwrap()] += 1;
            }
            assert!(met.iter().all(|times| (90..=110).contains(times)), "every {stride}: {met:?}");
        }
    }

    #[test]
    fn a_part_without_units_is_not_asked() {
        for turn in 0..100 {
            for burst in [1, 5, 16, 1000] {
                let Charge { limit, quota, .. } = charge(burst);
                let part = Asked::in_turn(turn).part(&limit, &quota);
                assert!(of_part(&charge(burst), part).quota.burst > 0, "part {part} of {burst}");
            }
        }
    }
}
