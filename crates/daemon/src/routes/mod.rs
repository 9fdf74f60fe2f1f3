//! The table of routes: the whole Engine API as data.

mod build;
mod checkpoints;
mod containers;
mod dispatch;
mod execs;
mod images;
mod networks;
mod plugins;
mod swarm;
mod system;
mod transfer;
mod volumes;

use http::Method;
use hull_api::version::Version;

use crate::http::router::Route;

/// A route whose work goes on when the client goes away.
macro_rules! route {
    ($method:ident $pattern:literal $handler:path) => {
        route!($method $pattern $handler, 40, false)
    };
    ($method:ident $pattern:literal $handler:path, cancellable) => {
        route!($method $pattern $handler, 40, true)
    };
    ($method:ident $pattern:literal $handler:path, $since:literal, $cancellable:literal) => {
        Route {
            method: Method::$method,
            pattern: $pattern,
            since: Version::new($since),
            cancellable: $cancellable,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

/// All routes; the first that matches answers.
pub static ROUTES: &[Route] = &[
    route!(GET "/_ping" system::ping, cancellable),
    route!(HEAD "/_ping" system::ping, cancellable),
    route!(GET "/version" system::version, cancellable),
    route!(GET "/info" system::info, cancellable),
    route!(GET "/events" system::events, cancellable),
    route!(GET "/system/df" system::disk_usage, cancellable),
    route!(POST "/auth" system::auth, cancellable),
    route!(GET "/containers/json" containers::list, cancellable),
    route!(POST "/containers/create" containers::create),
    route!(POST "/containers/prune" containers::prune),
    route!(GET "/containers/{id}/json" containers::inspect, cancellable),
    route!(GET "/containers/{id}/top" containers::top, cancellable),
    route!(GET "/containers/{id}/logs" containers::logs, cancellable),
    route!(GET "/containers/{id}/changes" containers::changes, cancellable),
    route!(GET "/containers/{id}/stats" containers::stats, cancellable),
    route!(GET "/containers/{id}/export" transfer::export, cancellable),
    route!(POST "/containers/{id}/start" containers::start),
    route!(POST "/containers/{id}/stop" containers::stop),
    route!(POST "/containers/{id}/restart" containers::restart),
    route!(POST "/containers/{id}/kill" containers::kill),
    route!(POST "/containers/{id}/pause" containers::pause),
    route!(POST "/containers/{id}/unpause" containers::unpause),
    route!(POST "/containers/{id}/rename" containers::rename),
    route!(POST "/containers/{id}/resize" containers::resize),
    route!(POST "/containers/{id}/update" containers::update),
    route!(POST "/containers/{id}/wait" containers::wait, cancellable),
    route!(POST "/containers/{id}/attach" containers::attach, cancellable),
    route!(GET "/containers/{id}/attach/ws" containers::attach_websocket, cancellable),
    route!(POST "/containers/{id}/exec" execs::create),
    route!(HEAD "/containers/{id}/archive" transfer::archive_stat, cancellable),
    route!(GET "/containers/{id}/archive" transfer::archive_get, cancellable),
    route!(PUT "/containers/{id}/archive" transfer::archive_put, cancellable),
    route!(GET "/containers/{id}/checkpoints" checkpoints::list, cancellable),
    route!(POST "/containers/{id}/checkpoints" checkpoints::create),
    route!(DELETE "/containers/{id}/checkpoints/{name}" checkpoints::remove),
    route!(DELETE "/containers/{name*}" containers::remove),
    route!(POST "/exec/{id}/start" execs::start, cancellable),
    route!(POST "/exec/{id}/resize" execs::resize),
    route!(GET "/exec/{id}/json" execs::inspect, cancellable),
    route!(POST "/commit" images::commit),
    route!(GET "/images/json" images::list, cancellable),
    route!(GET "/images/search" images::search, cancellable),
    route!(GET "/images/get" transfer::save_many, cancellable),
    route!(POST "/images/create" images::create, cancellable),
    route!(POST "/images/load" transfer::load, cancellable),
    route!(POST "/images/prune" images::prune),
    route!(GET "/images/{name*}/get" transfer::save_one, cancellable),
    route!(GET "/images/{name*}/json" images::inspect, cancellable),
    route!(GET "/images/{name*}/history" images::history, cancellable),
    route!(GET "/images/{name*}/attestations" images::attestations, 55, true),
    route!(POST "/images/{name*}/push" images::push, cancellable),
    route!(POST "/images/{name*}/tag" images::tag),
    route!(DELETE "/images/{name*}" images::remove),
    route!(GET "/distribution/{name*}/json" images::distribution, cancellable),
    route!(GET "/volumes" volumes::list, cancellable),
    route!(POST "/volumes/create" volumes::create),
    route!(POST "/volumes/prune" volumes::prune),
    route!(GET "/volumes/{name*}" volumes::inspect, cancellable),
    route!(PUT "/volumes/{name*}" volumes::update),
    route!(DELETE "/volumes/{name*}" volumes::remove),
    route!(GET "/networks" networks::list, cancellable),
    route!(GET "/networks/" networks::list, cancellable),
    route!(POST "/networks/create" networks::create),
    route!(POST "/networks/prune" networks::prune),
    route!(GET "/networks/{id}" networks::inspect, cancellable),
    route!(DELETE "/networks/{id}" networks::remove),
    route!(POST "/networks/{id}/connect" networks::connect),
    route!(POST "/networks/{id}/disconnect" networks::disconnect),
    route!(POST "/build" build::build, cancellable),
    route!(POST "/build/prune" build::prune, cancellable),
    route!(POST "/build/cancel" build::cancel, cancellable),
    route!(POST "/session" build::session, cancellable),
    route!(POST "/grpc" build::session, cancellable),
    route!(GET "/plugins" plugins::list, cancellable),
    route!(GET "/plugins/privileges" plugins::missing, cancellable),
    route!(POST "/plugins/pull" plugins::missing, cancellable),
    route!(POST "/plugins/create" plugins::missing, cancellable),
    route!(GET "/plugins/{name*}/json" plugins::not_found, cancellable),
    route!(DELETE "/plugins/{name*}" plugins::not_found, cancellable),
    route!(POST "/plugins/{name*}/enable" plugins::not_found, cancellable),
    route!(POST "/plugins/{name*}/disable" plugins::not_found, cancellable),
    route!(POST "/plugins/{name*}/upgrade" plugins::not_found, cancellable),
    route!(POST "/plugins/{name*}/push" plugins::not_found, cancellable),
    route!(POST "/plugins/{name*}/set" plugins::not_found, cancellable),
    route!(GET "/swarm" swarm::not_manager, cancellable),
    route!(POST "/swarm/init" swarm::missing, cancellable),
    route!(POST "/swarm/join" swarm::missing, cancellable),
    route!(POST "/swarm/leave" swarm::not_member, cancellable),
    route!(POST "/swarm/update" swarm::not_manager, cancellable),
    route!(GET "/swarm/unlockkey" swarm::not_manager, cancellable),
    route!(POST "/swarm/unlock" swarm::not_manager, cancellable),
    route!(GET "/nodes" swarm::not_manager, cancellable),
    route!(GET "/nodes/{id}" swarm::not_manager, cancellable),
    route!(DELETE "/nodes/{id}" swarm::not_manager, cancellable),
    route!(POST "/nodes/{id}/update" swarm::not_manager, cancellable),
    route!(GET "/services" swarm::not_manager, cancellable),
    route!(POST "/services/create" swarm::not_manager, cancellable),
    route!(GET "/services/{id}" swarm::not_manager, cancellable),
    route!(DELETE "/services/{id}" swarm::not_manager, cancellable),
    route!(POST "/services/{id}/update" swarm::not_manager, cancellable),
    route!(GET "/services/{id}/logs" swarm::not_manager, cancellable),
    route!(GET "/tasks" swarm::not_manager, cancellable),
    route!(GET "/tasks/{id}" swarm::not_manager, cancellable),
    route!(GET "/tasks/{id}/logs" swarm::not_manager, cancellable),
    route!(GET "/secrets" swarm::not_manager, cancellable),
    route!(POST "/secrets/create" swarm::not_manager, cancellable),
    route!(GET "/secrets/{id}" swarm::not_manager, cancellable),
    route!(DELETE "/secrets/{id}" swarm::not_manager, cancellable),
    route!(POST "/secrets/{id}/update" swarm::not_manager, cancellable),
    route!(GET "/configs" swarm::not_manager, cancellable),
    route!(POST "/configs/create" swarm::not_manager, cancellable),
    route!(GET "/configs/{id}" swarm::not_manager, cancellable),
    route!(DELETE "/configs/{id}" swarm::not_manager, cancellable),
    route!(POST "/configs/{id}/update" swarm::not_manager, cancellable),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router::find;

    /// `documented.txt` is the list of routes of moby's description of API 1.55, one `METHOD /path` a line.
    #[test]
    fn every_documented_route_is_there() {
        let lines: Vec<&str> = include_str!("documented.txt").lines().collect();
        assert_eq!(lines.len(), 108);
        for line in lines {
            let (method, path) = line.split_once(' ').unwrap();
            let method: Method = method.parse().unwrap();
            let find = |path: &str| find(ROUTES, &method, path, Version::CURRENT).unwrap();
            let (route, _) = find(path).unwrap_or_else(|| panic!("{line} has no route"));
            // Not by the pattern of another.
            let shape = |path: &str| {
                path.split('/')
                    .map(|part| part.starts_with('{'))
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                shape(route.pattern),
                shape(path),
                "{line} is answered by {}",
                route.pattern
            );
        }
    }
}
