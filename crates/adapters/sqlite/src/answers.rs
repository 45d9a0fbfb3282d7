use async_trait::async_trait;
use diesel::prelude::*;
use uuid::Uuid;
use vestibule_domain::limits::Charge;
use vestibule_port_storage::{Answers, BeginError, Beginning, Execution, RequestDigest, Unavailable};

use crate::commit::{Refused, take_unit};
use crate::rows::{Unreadable, bytes, millis};
use crate::schema::kept_answers;
use crate::{Failure, Sqlite};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = kept_answers)]
struct AnswerRow {
    request: Vec<u8>,
    payload: Vec<u8>,
    execution: Vec<u8>,
    leased_until: i64,
    answer: Option<Vec<u8>>,
    forget_at: i64,
}

#[async_trait]
impl Answers for Sqlite {
    async fn begin(&self, execution: &Execution, charges: &[Charge]) -> Result<Beginning, BeginError> {
        let (execution, charges) = (*execution, charges.to_vec());
        let work = move |connection: &mut SqliteConnection| begin(connection, &execution, charges);
        self.writer.run(work).await.map_err(|Refused(error)| error.into())
    }

    async fn keep_answer(&self, execution: &Execution, sealed: Vec<u8>) -> Result<(), Unavailable> {
        let execution = *execution;
        let keep = move |connection: &mut SqliteConnection| {
            let own = kept_answers::table
                .find(execution.request.0.to_vec())
                .filter(kept_answers::execution.eq(bytes(execution.id)))
                .filter(kept_answers::answer.is_null());
            diesel::update(own).set(kept_answers::answer.eq(sealed)).execute(connection)?;
            Ok::<_, Failure>(())
        };
        Ok(self.write(keep).await?)
    }

    async fn forget_request(&self, request: &RequestDigest, execution: Uuid) -> Result<(), Unavailable> {
        let RequestDigest(request) = *request;
        let forget = move |connection: &mut SqliteConnection| {
            let own = kept_answers::table
                .find(request.to_vec())
                .filter(kept_answers::execution.eq(bytes(execution)));
            diesel::delete(own).execute(connection)?;
            Ok::<_, Failure>(())
        };
        Ok(self.write(forget).await?)
    }
}

/// Nobody else writes between the two statements: there is one writer.
fn begin(
    connection: &mut SqliteConnection,
    execution: &Execution,
    charges: Vec<Charge>,
) -> Result<Beginning, Refused> {
    let known: Option<AnswerRow> = kept_answers::table
        .find(execution.request.0.to_vec())
        .filter(kept_answers::forget_at.gt(millis(execution.now)))
        .select(AnswerRow::as_select())
        .first(connection)
        .optional()?;
    if let Some(known) = known {
        if known.payload != execution.payload.0 {
            return Ok(Beginning::OtherPayload);
        }
        if let Some(sealed) = known.answer {
            let by = Uuid::from_slice(&known.execution);
            let by = by.map_err(|_| Unavailable::from(Unreadable("an execution")))?;
            return Ok(Beginning::Answered { by, sealed });
        }
        if known.leased_until > millis(execution.now) {
            return Ok(Beginning::Running);
        }
    }
    charges.into_iter().try_for_each(|charge| take_unit(connection, charge))?;
    let row = AnswerRow {
        request: execution.request.0.to_vec(),
        payload: execution.payload.0.to_vec(),
        execution: bytes(execution.id),
        leased_until: millis(execution.leased_until),
        answer: None,
        forget_at: millis(execution.forget_at),
    };
    diesel::replace_into(kept_answers::table).values(row).execute(connection)?;
    Ok(Beginning::Begun)
}
