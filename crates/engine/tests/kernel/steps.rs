//! Each step of the start sequence fails in turn, and nothing remains.

use hull_engine::failpoint::{Action, POINTS};

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[
    case!(every_step_of_start_is_undone),
    case!(every_step_of_create_is_undone),
];

async fn every_step_of_start_is_undone() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh("exec sleep 1000");
    request
        .host_config
        .port_bindings
        .insert("80/tcp".to_owned(), Some(vec![Default::default()]));
    let id = fixture.create("steps", request).await;
    for point in POINTS.iter().filter(|point| point.starts_with("start.")) {
        fixture.options.failpoints.arm(point, Action::Fail).unwrap();
        let error = fixture.engine.containers.start(&id).await.expect_err(point);
        fixture.options.failpoints.clear();
        assert!(error.message.contains(point), "{point}: {}", error.message);
        assert!(
            !error.message.contains("undoing"),
            "{point}: {}",
            error.message
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        for dir in ["run/shims", "run/netns", "run/runtime"] {
            let left: Vec<_> = std::fs::read_dir(fixture.root.join(dir))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name())
                .collect();
            assert!(left.is_empty(), "{point}: {dir}: {left:?}");
        }
        let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
        db.read(|tx| {
            assert!(hull_state::networks::endpoints(tx)?.is_empty(), "{point}");
            assert!(hull_state::networks::ports(tx)?.is_empty(), "{point}");
            Ok(())
        })
        .unwrap();
        assert_eq!(
            fixture
                .engine
                .containers
                .inspect(&id, false)
                .await
                .unwrap()
                .state
                .status,
            "created",
            "{point}"
        );
    }
    // And then it starts.
    fixture.engine.containers.start(&id).await.unwrap();
    fixture.remove(&id).await;
    fixture.finish().await;
}

async fn every_step_of_create_is_undone() {
    let fixture = Fixture::new().await;
    for point in POINTS.iter().filter(|point| point.starts_with("create.")) {
        fixture.options.failpoints.arm(point, Action::Fail).unwrap();
        let mut request = Fixture::sh("true");
        request.host_config.binds = vec!["steps:/data".to_owned()];
        let error = fixture
            .engine
            .containers
            .create(Some("steps"), None, request)
            .await
            .expect_err(point);
        fixture.options.failpoints.clear();
        assert!(error.message.contains(point), "{point}: {}", error.message);
        assert!(
            fixture
                .engine
                .volumes
                .list(Default::default())
                .await
                .unwrap()
                .volumes
                .is_empty(),
            "{point}"
        );
        assert_eq!(
            std::fs::read_dir(fixture.root.join("data/containers"))
                .unwrap()
                .count(),
            0,
            "{point}"
        );
        let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
        db.read(|tx| {
            let left = hull_state::snapshots::list(tx)?;
            assert!(
                left.iter()
                    .all(|snapshot| snapshot.kind == hull_state::snapshots::Kind::Committed),
                "{point}"
            );
            Ok(())
        })
        .unwrap();
    }
    fixture.finish().await;
}
