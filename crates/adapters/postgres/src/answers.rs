use async_trait::async_trait;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Binary, Timestamptz};
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::OffsetDateTime;
use uuid::Uuid;
use vestibule_domain::limits::Charge;
use vestibule_metrics::objected;
use vestibule_port_storage::{Answers, BeginError, Beginning, Execution, RequestDigest, Unavailable};

use crate::Postgres;
use crate::budgets::{self, Asked, TakeUnit};
use crate::connection::{discard_on, is_rivalry, unavailable};
use crate::rows::stamp;
use crate::schema::kept_answers;
use crate::statement::{BUDGET, Prepared, Together};

/// The constraint that `vestibule_demand` names when a request is known already.
const BEGUN: &str = "begun";

/// How often a request is begun again that was there, and was forgotten before it was read; or that found a part of a budget empty.
const MAX_LOOKS: usize = 16;

/// Begins what is new, past, or left behind by who has died. Who comes second waits here for the first, and then finds its row. Returns a
/// row when it has begun.
struct Begin {
    request: Vec<u8>,
    payload: Vec<u8>,
    execution: Uuid,
    leased_until: OffsetDateTime,
    forget_at: OffsetDateTime,
    now: OffsetDateTime,
}

impl Begin {
    fn new(execution: &Execution) -> Self {
        Self {
            request: execution.request.0.to_vec(),
            payload: execution.payload.0.to_vec(),
            execution: execution.id,
            leased_until: stamp(execution.leased_until),
            forget_at: stamp(execution.forget_at),
            now: stamp(execution.now),
        }
    }
}

impl QueryFragment<Pg> for Begin {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO kept_answers AS known (request, payload, execution, leased_until, forget_at) VALUES (",
        );
        out.push_bind_param::<Binary, _>(&self.request)?;
        out.push_sql(", ");
        out.push_bind_param::<Binary, _>(&self.payload)?;
        out.push_sql(", ");
        out.push_bind_param::<diesel::sql_types::Uuid, _>(&self.execution)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.leased_until)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.forget_at)?;
        out.push_sql(
            ") ON CONFLICT (request) DO UPDATE SET payload = excluded.payload, execution = excluded.execution,
              leased_until = excluded.leased_until, answer = NULL, forget_at = excluded.forget_at
            WHERE known.forget_at <= ",
        );
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(
            " OR (known.answer IS NULL AND known.payload = excluded.payload AND known.leased_until <= ",
        );
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(") RETURNING request");
        Ok(())
    }
}

#[async_trait]
impl Answers for Postgres {
    async fn begin(&self, execution: &Execution, charges: &[Charge]) -> Result<Beginning, BeginError> {
        if let Some(Charge { quota, limit, .. }) = charges.iter().find(|charge| charge.quota.burst == 0) {
            objected(limit.step.as_str(), limit.scope.kind());
            return Err(BeginError::LimitReached { retry_after: quota.period });
        }
        let turn = self.commits.turn();
        self.writes.lend(async |connection| begin(connection, execution, charges, turn).await).await
    }

    async fn keep_answer(&self, execution: &Execution, sealed: Vec<u8>) -> Result<(), Unavailable> {
        self.write(async |connection| {
            let own = kept_answers::table
                .find(execution.request.0.to_vec())
                .filter(kept_answers::execution.eq(execution.id))
                .filter(kept_answers::answer.is_null());
            let keep = diesel::update(own).set(kept_answers::answer.eq(sealed));
            Prepared(keep).execute(&mut &*connection).await?;
            Ok(())
        })
        .await
    }

    async fn forget_request(&self, request: &RequestDigest, execution: Uuid) -> Result<(), Unavailable> {
        self.write(async |connection| {
            let own =
                kept_answers::table.find(request.0.to_vec()).filter(kept_answers::execution.eq(execution));
            Prepared(diesel::delete(own)).execute(&mut &*connection).await?;
            Ok(())
        })
        .await
    }
}

/// Begins and charges in one statement. Whether the request is new is decided first in it: a known one waits for no budget.
async fn begin(
    connection: &mut AsyncPgConnection,
    execution: &Execution,
    charges: &[Charge],
    turn: usize,
) -> Result<Beginning, BeginError> {
    let mut asked = Asked::in_turn(turn);
    for _ in 0..MAX_LOOKS {
        let mut statement = Together::default();
        statement.demand(BEGUN, Begin::new(execution));
        for charge in charges {
            statement.demand(BUDGET, TakeUnit::new(charge, &asked));
        }
        let Err(error) = statement.execute(&mut *connection).await else {
            return Ok(Beginning::Begun);
        };
        discard_on(&error, connection);
        match violated(&error) {
            Some(BEGUN) => {
                let known = known(connection, execution).await;
                if let Some(known) = known.map_err(|error| unavailable(&error))? {
                    return Ok(known);
                }
            }
            Some(BUDGET) => asked = budgets::with_units(connection, charges, turn).await?,
            _ if is_rivalry(&error) => {}
            _ => return Err(unavailable(&error).into()),
        }
    }
    Err(Unavailable("a request is begun and forgotten all the time".to_owned()).into())
}

fn violated(error: &Error) -> Option<&str> {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, violated) => violated.constraint_name(),
        _ => None,
    }
}

/// What is known of the request by now: a statement of its own, since the one before does not see what others have committed after it
/// began. `None` when it was forgotten meanwhile.
async fn known(connection: &mut AsyncPgConnection, execution: &Execution) -> QueryResult<Option<Beginning>> {
    let known: Option<(Vec<u8>, Uuid, Option<Vec<u8>>)> = kept_answers::table
        .find(execution.request.0.to_vec())
        .select((kept_answers::payload, kept_answers::execution, kept_answers::answer))
        .first(connection)
        .await
        .optional()?;
    Ok(known.map(|(payload, by, answer)| match answer {
        _ if payload != execution.payload.0 => Beginning::OtherPayload,
        Some(sealed) => Beginning::Answered { by, sealed },
        None => Beginning::Running,
    }))
}
