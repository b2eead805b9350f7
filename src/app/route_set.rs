//! The routes that a connection reaches. The address of its listener determines them.

use crate::app::route::Route;

/// The routes that a connection reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteSet {
    /// All: there is no admin address.
    All,
    /// All but those for operators.
    Public,
    /// Metrics and health, for operators.
    Admin,
}

impl RouteSet {
    /// Returns the route, or [`Route::Unknown`] if the connection does not reach it.
    pub const fn restrict(self, route: Route) -> Route {
        let is_reached = match (self, route) {
            (Self::All, _) | (_, Route::Server | Route::Tunnel | Route::Unknown) => true,
            (Self::Public, route) => !is_admin(route),
            (Self::Admin, route) => is_admin(route),
        };
        if is_reached { route } else { Route::Unknown }
    }
}

/// Whether a route is for operators.
pub(super) const fn is_admin(route: Route) -> bool {
    matches!(route, Route::Metrics | Route::Healthz | Route::Readyz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::route::Index;

    #[test]
    fn an_admin_address_takes_the_admin_routes_from_the_others() {
        let check = |route, public, admin| {
            let reached = |routes: RouteSet| routes.restrict(route) == route;
            let found = [RouteSet::All, RouteSet::Public, RouteSet::Admin].map(reached);
            assert_eq!(found, [true, public, admin], "{route:?}");
        };
        for route in [Route::Metrics, Route::Healthz, Route::Readyz] {
            check(route, false, true);
        }
        check(Route::Fibonacci(Index::Number(20)), true, false);
        check(Route::Fibonacci(Index::Malformed), true, false);
        for route in [Route::Server, Route::Tunnel, Route::Unknown] {
            check(route, true, true);
        }
        assert_eq!(RouteSet::Public.restrict(Route::Metrics), Route::Unknown);
    }
}
