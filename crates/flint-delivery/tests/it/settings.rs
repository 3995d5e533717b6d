//! The operations on event-invoke configurations.

use flint_kit::Doc;
use serde_json::json;

use crate::fakes::{Does, World, place};

const FUNCTION: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

#[tokio::test(start_paused = true)]
async fn the_life_of_a_configuration() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    let put = json!({ "FunctionName": "f", "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 3600 });
    let doc = world.call("PutFunctionEventInvokeConfig", put).await.expect("put");
    assert_eq!(doc.text_of("FunctionArn"), Some(&*format!("{FUNCTION}:$LATEST")));
    assert_eq!((doc.int_of("MaximumRetryAttempts"), doc.int_of("MaximumEventAgeInSeconds")), (Some(0), Some(3600)));
    assert_eq!(doc.get("DestinationConfig").and_then(|config| config.get("OnSuccess")), Some(&Doc::Map(vec![])));
    let update = json!({ "FunctionName": "f", "MaximumRetryAttempts": 2 });
    world.call("UpdateFunctionEventInvokeConfig", update).await.expect("updated");
    let put_alias = json!({ "FunctionName": "f", "Qualifier": "live", "MaximumRetryAttempts": 1 });
    world.call("PutFunctionEventInvokeConfig", put_alias).await.expect("put");
    let world = world.restart(10).await;
    let doc = world.call("GetFunctionEventInvokeConfig", json!({ "FunctionName": "f" })).await.expect("there");
    assert_eq!((doc.int_of("MaximumRetryAttempts"), doc.int_of("MaximumEventAgeInSeconds")), (Some(2), Some(3600)));
    let page = json!({ "FunctionName": "f", "MaxItems": 1 });
    let doc = world.call("ListFunctionEventInvokeConfigs", page).await.expect("listed");
    assert_eq!(doc.text_of("NextMarker"), Some("$LATEST"));
    let page = json!({ "FunctionName": "f", "MaxItems": 1, "Marker": "$LATEST" });
    let doc = world.call("ListFunctionEventInvokeConfigs", page).await.expect("listed");
    assert_eq!(doc.text_of("NextMarker"), None);
    let reset = json!({ "FunctionName": "f", "MaximumEventAgeInSeconds": 60 });
    let doc = world.call("PutFunctionEventInvokeConfig", reset).await.expect("put");
    assert_eq!(doc.int_of("MaximumRetryAttempts"), None, "put leaves nothing of what was");
    world.call("DeleteFunctionEventInvokeConfig", json!({ "FunctionName": "f" })).await.expect("deleted");
    let gone = world.call("GetFunctionEventInvokeConfig", json!({ "FunctionName": "f" })).await.expect_err("gone");
    assert_eq!((gone.status, gone.code.as_ref()), (404, "ResourceNotFoundException"));
    assert_eq!(gone.message, format!("The function {FUNCTION}:$LATEST doesn't have an EventInvokeConfig"));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    let destination =
        |arn: &str| json!({ "FunctionName": "f", "DestinationConfig": { "OnFailure": { "Destination": arn } } });
    for (doc, code, words) in [
        (json!({ "FunctionName": "f" }), "InvalidParameterValueException", "at least one of error handling"),
        (json!({ "FunctionName": "g", "MaximumRetryAttempts": 1 }), "ResourceNotFoundException", "Function not found"),
        (
            json!({ "FunctionName": "f:no", "MaximumRetryAttempts": 1 }),
            "ResourceNotFoundException",
            "Function not found",
        ),
        (destination(FUNCTION), "InvalidParameterValueException", "destination for itself"),
        (destination("nonsense"), "InvalidParameterValueException", "nonsense"),
        (destination("arn:aws:sqs:us-east-1:000000000000:no-queue"), "InvalidParameterValueException", "no such queue"),
        (destination("arn:aws:sqs:us-east-1:000000000000:q.fifo"), "InvalidParameterValueException", "FIFO"),
        (
            destination("arn:aws:lambda:us-east-1:000000000000:function:g"),
            "InvalidParameterValueException",
            "no such function",
        ),
        (
            destination("arn:aws:sns:us-east-1:000000000000:t"),
            "NotImplemented",
            "DestinationConfig.OnFailure.Destination=arn:aws:sns",
        ),
        (destination("arn:aws:events:us-east-1:000000000000:event-bus/b"), "NotImplemented", "arn:aws:events"),
        (destination("arn:aws:s3:::bucket"), "NotImplemented", "arn:aws:s3"),
    ] {
        let fault = world.call("PutFunctionEventInvokeConfig", doc.clone()).await.expect_err("refused");
        assert_eq!(fault.code, code, "{doc}: {fault}");
        assert!(fault.message.contains(words), "{doc}: {fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_function_of_an_old_name_has_no_configuration() {
    let world = World::new().await;
    world.engine.put("f", |_| Does::Answer("null"));
    for qualifier in ["$LATEST", "live"] {
        let put = json!({ "FunctionName": "f", "Qualifier": qualifier, "MaximumRetryAttempts": 0 });
        world.call("PutFunctionEventInvokeConfig", put).await.expect("put");
    }
    world.delivery.async_invoker().forget(&place(), &"f:live".parse().unwrap()).await.expect("forgotten");
    assert!(world.call("GetFunctionEventInvokeConfig", json!({ "FunctionName": "f" })).await.is_ok());
    world.delivery.async_invoker().forget(&place(), &"f".parse().unwrap()).await.expect("forgotten");
    assert!(world.call("GetFunctionEventInvokeConfig", json!({ "FunctionName": "f" })).await.is_err());
    // A crash between the two: the next start notices.
    world
        .call("PutFunctionEventInvokeConfig", json!({ "FunctionName": "f", "MaximumRetryAttempts": 0 }))
        .await
        .expect("put");
    world.engine.remove("f");
    let world = world.restart(10).await;
    world.engine.put("f", |_| Does::Answer("null"));
    assert!(world.call("GetFunctionEventInvokeConfig", json!({ "FunctionName": "f" })).await.is_err());
}
