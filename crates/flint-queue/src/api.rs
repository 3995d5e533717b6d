//! Inputs of the operations, as in the SQS API Reference, and the outputs that are more than a member or two.

use std::collections::BTreeMap;

use flint_kit::doc::Blob;
use serde::{Deserialize, Serialize};

macro_rules! input {
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $name { $(pub $field: $kind),* }
    };
}

macro_rules! output {
    ($name:ident { $($(#[$attribute:meta])? $field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Default, Serialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $name { $($(#[$attribute])? pub $field: $kind),* }
    };
}

/// Every operation that needs nothing but the queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfQueue {
    pub queue_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateQueue {
    pub queue_name: String,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    #[serde(default, rename = "tags")]
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetQueueUrl {
    pub queue_name: String,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    pub owner: Option<String>,
}

input!(ListQueues { queue_name_prefix: Option<String>, next_token: Option<String>, max_results: Option<i64> });
input!(ListDeadLetterSourceQueues { queue_url: String, next_token: Option<String>, max_results: Option<i64> });
output!(ListedQueues { queue_urls: Option<Vec<String>>, next_token: Option<String> });

#[derive(Debug, Serialize)]
pub struct ListedSources {
    #[serde(rename = "queueUrls")]
    pub queue_urls: Vec<String>,
    #[serde(rename = "NextToken")]
    pub next_token: Option<String>,
}

input!(GetQueueAttributes { queue_url: String, attribute_names: Option<Vec<String>> });
input!(SetQueueAttributes { queue_url: String, attributes: BTreeMap<String, String> });
input!(TagQueue { queue_url: String, tags: BTreeMap<String, String> });
input!(UntagQueue { queue_url: String, tag_keys: Vec<String> });

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddPermission {
    pub queue_url: String,
    pub label: String,
    #[serde(rename = "AWSAccountIds")]
    pub accounts: Vec<String>,
    pub actions: Vec<String>,
}

input!(RemovePermission { queue_url: String, label: String });

input!(SendMessage {
    queue_url: String,
    message_body: String,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, AttributeValue>>,
    message_system_attributes: Option<BTreeMap<String, AttributeValue>>,
    message_deduplication_id: Option<String>,
    message_group_id: Option<String>,
});
input!(SendMessageBatch { queue_url: String, entries: Vec<SendEntry> });
input!(SendEntry {
    id: String,
    message_body: String,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, AttributeValue>>,
    message_system_attributes: Option<BTreeMap<String, AttributeValue>>,
    message_deduplication_id: Option<String>,
    message_group_id: Option<String>,
});
input!(AttributeValue {
    string_value: Option<String>,
    binary_value: Option<Blob>,
    string_list_values: Option<Vec<String>>,
    binary_list_values: Option<Vec<Blob>>,
    data_type: String,
});

input!(ReceiveMessage {
    queue_url: String,
    attribute_names: Option<Vec<String>>,
    message_system_attribute_names: Option<Vec<String>>,
    message_attribute_names: Option<Vec<String>>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    receive_request_attempt_id: Option<String>,
});

input!(DeleteMessage { queue_url: String, receipt_handle: String });
input!(DeleteMessageBatch { queue_url: String, entries: Vec<DeleteEntry> });
input!(DeleteEntry { id: String, receipt_handle: String });
input!(ChangeMessageVisibility { queue_url: String, receipt_handle: String, visibility_timeout: i64 });
input!(ChangeMessageVisibilityBatch { queue_url: String, entries: Vec<VisibilityEntry> });
input!(VisibilityEntry { id: String, receipt_handle: String, visibility_timeout: Option<i64> });

output!(BatchResult { successful: Vec<Successful>, failed: Vec<Failed> });
output!(Successful {
    id: String,
    message_id: Option<String>,
    #[serde(rename = "MD5OfMessageBody")]
    md5_of_body: Option<String>,
    #[serde(rename = "MD5OfMessageAttributes")]
    md5_of_attributes: Option<String>,
    #[serde(rename = "MD5OfMessageSystemAttributes")]
    md5_of_system_attributes: Option<String>,
    sequence_number: Option<String>,
});
output!(Failed { id: String, code: String, message: Option<String>, sender_fault: bool });

input!(StartMessageMoveTask {
    source_arn: String,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
});
input!(ListMessageMoveTasks { source_arn: String, max_results: Option<i64> });
input!(CancelMessageMoveTask { task_handle: String });
output!(ListedTasks { results: Vec<ListedTask> });
output!(ListedTask {
    task_handle: Option<String>,
    status: &'static str,
    source_arn: String,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<u32>,
    approximate_number_of_messages_moved: u64,
    approximate_number_of_messages_to_move: Option<u64>,
    failure_reason: Option<String>,
    started_timestamp: i64,
});
