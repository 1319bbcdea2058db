//! Statements that go to SQLite together.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

/// The rows of the statements that stay prepared: a list of rows is cut into the largest that fit.
const ROWS: [usize; 4] = [64, 16, 4, 1];
/// So few statements go in one message to SQLite's thread, as one text that stays prepared.
const TOGETHER: usize = 6;

/// A value of a statement.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

struct Statement {
    sql: Cow<'static, str>,
    arguments: Vec<Argument>,
    /// Whether its text is one of few.
    common: bool,
}

/// Statements of one transaction, in order.
#[derive(Default)]
pub(super) struct Statements(Vec<Statement>);

impl Statements {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a statement with its arguments, one for each `?`.
    pub(super) fn push(&mut self, sql: &'static str, arguments: Vec<Argument>) {
        self.0.push(Statement {
            sql: Cow::Borrowed(sql),
            arguments,
            common: true,
        });
    }

    /// Adds `head (?, …), (?, …) tail` for rows of `columns` values each.
    pub(super) fn rows(&mut self, head: &str, columns: usize, tail: &str, rows: Vec<Argument>) {
        let mut rest = rows;
        for size in ROWS {
            let step = size * columns;
            while rest.len() >= step && step > 0 {
                let remaining = rest.split_off(step);
                let row = format!("({})", vec!["?"; columns].join(", "));
                let mut sql = head.to_owned();
                // Writing to a text does not fail.
                write!(sql, " {}{tail}", vec![row.as_str(); size].join(", ")).unwrap_or_default();
                self.0.push(Statement {
                    sql: Cow::Owned(sql),
                    arguments: std::mem::replace(&mut rest, remaining),
                    common: size == 1,
                });
            }
        }
    }

    /// Runs them in one transaction; durable when this returns. After an error it is rolled back, if that is possible.
    pub(super) async fn commit(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let committed = self.transaction(connection).await;
        if committed.is_err() {
            // That nothing is left to be rolled back is no error to anybody.
            let rolled_back = sqlx::query("ROLLBACK").execute(connection).await;
            tracing::debug!(?rolled_back, "a transaction failed");
        }
        committed
    }

    async fn transaction(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if self.0.len() <= TOGETHER && self.0.iter().all(|statement| statement.common) {
            let mut sql = String::from("BEGIN IMMEDIATE");
            let mut arguments = Vec::new();
            for statement in self.0 {
                sql.push_str("; ");
                sql.push_str(&statement.sql);
                arguments.extend(statement.arguments);
            }
            sql.push_str("; COMMIT");
            return run(connection, sql, arguments).await;
        }
        run(connection, "BEGIN IMMEDIATE".to_owned(), Vec::new()).await?;
        for statement in self.0 {
            run(connection, statement.sql.into_owned(), statement.arguments).await?;
        }
        run(connection, "COMMIT".to_owned(), Vec::new()).await
    }
}

async fn run(connection: &mut SqliteConnection, sql: String, arguments: Vec<Argument>) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query::<sqlx::Sqlite>(AssertSqlSafe(sql));
    for argument in arguments {
        query = match argument {
            Argument::Integer(number) => query.bind(number),
            Argument::Text(text) => query.bind(text),
            Argument::Bytes(bytes) => query.bind(bytes),
        };
    }
    query.execute(connection).await.map(drop)
}
