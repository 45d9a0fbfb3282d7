//! Several statements as one.
//!
//! PostgreSQL runs the parts of a `WITH` in one transaction of its own: all of them take effect or none does. Such a commit
//! costs one round trip, needs no `BEGIN` that could stay open when its caller goes away, and cannot be torn by a lost connection.

use std::sync::OnceLock;

use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{AstPass, Query, QueryBuilder as _, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{Integer, Text};

/// The constraint that `vestibule_demand` names when an aggregate is not at the version that was loaded.
pub(crate) const VERSION: &str = "version";
/// The constraint that it names when a budget is empty.
pub(crate) const BUDGET: &str = "budget";
/// The constraint that it names when more would be spent than may be.
pub(crate) const CEILING: &str = "ceiling";

type Part = Box<dyn QueryFragment<Pg> + Send>;

/// Parts that run as one statement, in no certain order: no two of them may write the same row.
#[derive(Default)]
pub(crate) struct Together {
    parts: Vec<(Part, Option<&'static str>)>,
}

impl Together {
    /// Adds a statement whose failure is an error by itself.
    pub(crate) fn add(&mut self, part: impl QueryFragment<Pg> + Send + 'static) {
        self.parts.push((Box::new(part), None));
    }

    /// Adds a statement that must return a row, or else nothing happens and `name` is the violated constraint.
    pub(crate) fn demand(&mut self, name: &'static str, part: impl QueryFragment<Pg> + Send + 'static) {
        self.parts.push((Box::new(part), Some(name)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl QueryFragment<Pg> for Together {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (number, (part, _)) in self.parts.iter().enumerate() {
            out.push_sql(if number == 0 { "WITH p" } else { ", p" });
            out.push_sql(&number.to_string());
            out.push_sql(" AS (");
            part.walk_ast(out.reborrow())?;
            out.push_sql(")");
        }
        out.push_sql(" SELECT 1");
        for (number, (_, demanded)) in self.parts.iter().enumerate() {
            if let Some(name) = demanded {
                let demand = format!(", vestibule_demand((SELECT count(*) FROM p{number}), '{name}')::text");
                out.push_sql(&demand);
            }
        }
        Ok(())
    }

    /// The text says all that there is to say: what varies is bound, and a part more or less makes another text.
    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl QueryId for Together {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Together {
    type SqlType = Integer;
}

/// A query whose text is prepared once in a connection, though its type does not say that the text never varies.
pub(crate) struct Prepared<Q>(pub(crate) Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> QueryId for Prepared<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Prepared<Q> {
    type SqlType = Q::SqlType;
}

/// A query whose text is put together once, at its first use, and not for each of the requests that ask it: it names some sixty columns, and each name is
/// quoted anew. `text` belongs to this query alone, and nothing but what is bound may vary.
pub(crate) struct Fixed<Q> {
    pub(crate) text: &'static OnceLock<String>,
    pub(crate) query: Q,
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Fixed<Q> {
    fn to_sql(&self, out: &mut PgQueryBuilder, backend: &Pg) -> QueryResult<()> {
        if let Some(text) = self.text.get() {
            out.push_sql(text);
            return Ok(());
        }
        let mut first = PgQueryBuilder::new();
        self.query.to_sql(&mut first, backend)?;
        out.push_sql(self.text.get_or_init(|| first.finish()));
        Ok(())
    }

    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q: QueryId> QueryId for Fixed<Q> {
    type QueryId = Q::QueryId;
    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<Q: Query> Query for Fixed<Q> {
    type SqlType = Q::SqlType;
}

/// A query that begins from `schema::asked`: one row, with the number that is asked for, whatever is known of it.
pub(crate) struct Asked<'a, Q> {
    pub(crate) phone: &'a str,
    pub(crate) query: Q,
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Asked<'_, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH asked (phone) AS (SELECT ");
        out.push_bind_param::<Text, _>(self.phone)?;
        out.push_sql("::text) ");
        self.query.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, backend: &Pg) -> QueryResult<bool> {
        self.query.is_safe_to_cache_prepared(backend)
    }
}

impl<Q> QueryId for Asked<'_, Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Asked<'_, Q> {
    type SqlType = Q::SqlType;
}
