use async_trait::async_trait;
use diesel::sql_types::{Binary, Bool, Timestamptz};
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use uuid::Uuid;
use vestibule_port_storage::{Answers, Beginning, Execution, RequestDigest, Unavailable};

use crate::rows::stamp;
use crate::schema::kept_answers;
use crate::statement::Prepared;
use crate::{Failure, Postgres};

/// Begins what is new, past, or left behind by who has died. Who comes second waits here for the first, and then finds its row.
const BEGIN: &str = "
    WITH begun AS (
      INSERT INTO kept_answers AS known (request, payload, execution, leased_until, forget_at) VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (request) DO UPDATE SET payload = excluded.payload, execution = excluded.execution,
        leased_until = excluded.leased_until, answer = NULL, forget_at = excluded.forget_at
      WHERE known.forget_at <= $6
        OR (known.answer IS NULL AND known.leased_until <= $6 AND known.payload = excluded.payload)
      RETURNING request)
    SELECT EXISTS (SELECT FROM begun) AS yes";

/// How often a request is looked for that was there when it was to be begun, and was forgotten before it was read.
const MAX_LOOKS: usize = 8;

#[derive(diesel::QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

#[async_trait]
impl Answers for Postgres {
    async fn begin(&self, execution: &Execution) -> Result<Beginning, Unavailable> {
        let begun = self.write(async |connection| begin(connection, execution).await).await?;
        begun.ok_or_else(|| Unavailable("a request is begun and forgotten all the time".to_owned()))
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

/// `None` when the request was forgotten each time before it could be read.
async fn begin(connection: &AsyncPgConnection, execution: &Execution) -> Result<Option<Beginning>, Failure> {
    for _ in 0..MAX_LOOKS {
        let begin = sql_query(BEGIN)
            .bind::<Binary, _>(execution.request.0.to_vec())
            .bind::<Binary, _>(execution.payload.0.to_vec())
            .bind::<diesel::sql_types::Uuid, _>(execution.id)
            .bind::<Timestamptz, _>(stamp(execution.leased_until))
            .bind::<Timestamptz, _>(stamp(execution.forget_at))
            .bind::<Timestamptz, _>(stamp(execution.now));
        let Answer { yes } = Prepared(begin).get_result(&mut &*connection).await?;
        if yes {
            return Ok(Some(Beginning::Begun));
        }
        // A statement of its own: the one before does not see what others have committed since it began.
        let known: Option<(Vec<u8>, Uuid, Option<Vec<u8>>)> = kept_answers::table
            .find(execution.request.0.to_vec())
            .select((kept_answers::payload, kept_answers::execution, kept_answers::answer))
            .first(&mut &*connection)
            .await
            .optional()?;
        match known {
            Some((payload, _, _)) if payload != execution.payload.0 => {
                return Ok(Some(Beginning::OtherPayload));
            }
            Some((_, by, Some(sealed))) => return Ok(Some(Beginning::Answered { by, sealed })),
            Some((_, _, None)) => return Ok(Some(Beginning::Running)),
            None => {}
        }
    }
    Ok(None)
}
