//! PostgreSQL's LISTEN and NOTIFY: each node hears of a change as soon as it is committed. Only faster than the poll, never
//! needed: a server without it, or a word that is lost, costs half a second. Called by `feed` and `Store::run`.

use std::time::Duration;

use sqlx::{
    AnyConnection, AnyPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::sync::Notify;

use super::{Settings, StoreError, location, open::SERVER_WAIT};

/// Where it is said; one database may hold several gateways' schemas, which then wake one another for nothing.
const CHANNEL: &str = "portcullis";
/// Between two tries to listen.
const RETRY: Duration = Duration::from_secs(1);

/// Says with this transaction's commit that there is a change.
pub(super) async fn tell(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(connection).await.map(drop)
}

/// Whether this server has NOTIFY at all; asked once, because in a transaction the question would be its end.
pub(super) async fn is_known(pool: &AnyPool) -> bool {
    let Ok(mut connection) = pool.acquire().await else { return false };
    match tell(&mut connection).await {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, "the database server has no NOTIFY: changes are found by looking each half second");
            false
        }
    }
}

/// Wakes `arrived` at each word heard, over a connection of its own. Never ends.
pub(super) async fn listen(settings: &Settings, arrived: &Notify) -> Result<(), StoreError> {
    let options = location::server_options(settings)?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(SERVER_WAIT)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options);
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            // What was said before nobody heard.
            arrived.notify_one();
            // `None`: the connection broke, and whatever was said meanwhile is lost. The outage itself is the poll's news.
            while let Ok(heard) = listener.try_recv().await {
                arrived.notify_one();
                if heard.is_none() {
                    break;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
