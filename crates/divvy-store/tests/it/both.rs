//! The same tests on both kinds of store. On a server all of them share one, each in a database of its own.

use std::path::Path;

use divvy_store::Store;

pub(crate) async fn in_a_file(directory: &Path) -> Store {
    Store::open(&directory.join("store.db")).await.unwrap()
}

/// Takes functions that are given an empty store.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod in_a_file {
            $(
                #[tokio::test]
                async fn $test() {
                    let directory = tempfile::tempdir().unwrap();
                    super::$test(crate::both::in_a_file(directory.path()).await).await;
                }
            )*
        }

        #[cfg(unix)]
        #[tokio::test]
        async fn on_a_server() {
            let Some(server) = divvy_testkit::postgres::Postgres::start() else { return };
            $(
                let name = stringify!($test);
                println!("{name}");
                let url = server.database(name);
                let store = divvy_store::Store::connect(&url, divvy_store::Terms::default()).await.unwrap();
                $test(store.clone()).await;
                store.close().await.unwrap();
            )*
        }
    };
}
pub(crate) use on_both;
