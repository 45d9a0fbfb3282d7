//! What is counted of requests. A label holds nothing that a client can choose.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use vestibule_metrics::{HTTP_REFUSALS, HTTP_REQUEST_DURATION, HTTP_UNAVAILABLE, HistogramHandle};

use crate::problem::Problem;

/// The answers of a route, by method and status.
type Answers = Vec<((&'static str, StatusCode), HistogramHandle)>;

thread_local! {
    /// What counts is kept by each thread: to have the recorder find it takes longer than to count.
    static KEPT: RefCell<HashMap<String, Answers>> = RefCell::default();
}

/// The route that a request meets, and nothing else of the address: a query carries the token of a link, and a path that we don't have may carry
/// anything, a phone number too.
pub(crate) fn route(pattern: Option<String>) -> String {
    pattern.unwrap_or_else(|| "unknown".to_owned())
}

/// Counts an answer of the route.
pub(crate) fn answered(route: &str, method: &Method, status: StatusCode, took: Duration) {
    let answer = (name(method), status);
    KEPT.with_borrow_mut(|kept| {
        let kept = match kept.get_mut(route) {
            Some(kept) => kept,
            None => kept.entry(route.to_owned()).or_default(),
        };
        if let Some((_, histogram)) = kept.iter().find(|(of, _)| *of == answer) {
            histogram.record(took);
            return;
        }
        let labels = [route.to_owned().into(), answer.0.into(), status.as_str().to_owned().into()];
        let histogram = HTTP_REQUEST_DURATION.of(labels);
        histogram.record(took);
        kept.push((answer, histogram));
    });
}

/// Counts a refusal by the route.
pub(crate) fn refused(route: String, problem: &Problem) {
    if let Some(cause) = problem.cause {
        HTTP_UNAVAILABLE.of([route.clone().into(), cause.as_str().into()]).increment(1);
    }
    HTTP_REFUSALS.of([route.into(), problem.error.into()]).increment(1);
}

/// Of the methods that clients use there is a name; anybody can make up another one.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_clients_make_up_becomes_no_label() {
        for (path, method) in
            [("/+447871234567", "GET"), ("/v2/?token=t", "PURGE"), ("/metrics", "get"), ("/a", "PROPFIND")]
        {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = TestRequest::with_uri(path).method(method).to_srv_request();
            let route = route(request.match_pattern());
            answered(&route, request.method(), StatusCode::NOT_FOUND, Duration::ZERO);
        }
        KEPT.with_borrow(|kept| {
            assert_eq!(kept.keys().collect::<Vec<_>>(), ["unknown"]);
            let kept = kept.get("unknown").unwrap().iter().map(|(answer, _)| *answer).collect::<Vec<_>>();
            assert_eq!(kept, [("GET", StatusCode::NOT_FOUND), ("other", StatusCode::NOT_FOUND)]);
        });
    }
}
