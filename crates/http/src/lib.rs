//! The wire: routes, bodies, errors to statuses, the OpenAPI document.
