//! The paths of the past through the whole front: who may ask, and how.

use serde_json::Value;
use setpoint_server::UserInfo;

use crate::client;
use crate::cluster::Cluster;

async fn ask(cluster: &Cluster, user: UserInfo, method: &str, path: &str) -> Result<Value, u16> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .body(Vec::new())
        .expect("a request");
    match client(cluster, user).request(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_past_is_told_to_who_may_ask_for_its_paths() {
    let cluster = Cluster::start().await;
    for path in ["/setpoint/v1/log", "/setpoint/v1/changes"] {
        ask(&cluster, UserInfo::system("test"), "GET", path)
            .await
            .expect("an answer");
        let refused = ask(&cluster, UserInfo::new("ann", &[]), "GET", path).await;
        assert_eq!(refused, Err(403), "{path}");
        let refused = ask(&cluster, UserInfo::system("test"), "POST", path).await;
        assert_eq!(refused, Err(405), "{path}");
        let paths = ask(&cluster, UserInfo::system("test"), "GET", "/")
            .await
            .expect("paths");
        let listed = paths["paths"]
            .as_array()
            .is_some_and(|paths| paths.iter().any(|listed| listed == path));
        assert!(listed, "{path}");
    }
    let missing = ask(&cluster, UserInfo::system("test"), "GET", "/setpoint/v1/nothing").await;
    assert_eq!(missing, Err(404));
}
