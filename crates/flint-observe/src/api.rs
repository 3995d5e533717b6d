//! Inputs and outputs of the operations, as in the CloudWatch Logs API Reference. Times are milliseconds since the
//! epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! input {
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $(pub $field: $kind),* }
    };
}

macro_rules! output {
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Default, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $(pub $field: $kind),* }
    };
}

input!(CreateLogGroup {
    log_group_name: String,
    kms_key_id: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    log_group_class: Option<String>,
    deletion_protection_enabled: Option<bool>,
});
input!(DeleteLogGroup { log_group_name: String });
input!(PutRetentionPolicy { log_group_name: String, retention_in_days: i64 });
input!(DeleteRetentionPolicy { log_group_name: String });
input!(DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    account_identifiers: Option<Vec<String>>,
    include_linked_accounts: Option<bool>,
    log_group_class: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
});
output!(DescribedLogGroups { log_groups: Vec<LogGroup>, next_token: Option<String> });
output!(LogGroup {
    log_group_name: String,
    creation_time: i64,
    retention_in_days: Option<u32>,
    metric_filter_count: Option<i64>,
    arn: String,
    stored_bytes: Option<u64>,
    log_group_class: Option<&'static str>,
    log_group_arn: Option<String>,
});

input!(CreateLogStream { log_group_name: String, log_stream_name: String });
input!(DeleteLogStream { log_group_name: String, log_stream_name: String });
input!(DescribeLogStreams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<i64>,
});
output!(DescribedLogStreams { log_streams: Vec<LogStream>, next_token: Option<String> });
output!(LogStream {
    log_stream_name: String,
    creation_time: i64,
    first_event_timestamp: Option<i64>,
    last_event_timestamp: Option<i64>,
    last_ingestion_time: Option<i64>,
    upload_sequence_token: String,
    arn: String,
    stored_bytes: u64,
});

input!(PutLogEvents { log_group_name: String, log_stream_name: String, log_events: Vec<InputLogEvent> });
input!(InputLogEvent { timestamp: i64, message: String });
output!(PutEvents { next_sequence_token: String, rejected_log_events_info: Option<RejectedEvents> });
output!(RejectedEvents {
    too_new_log_event_start_index: Option<usize>,
    too_old_log_event_end_index: Option<usize>,
    expired_log_event_end_index: Option<usize>,
});

input!(GetLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
});
output!(GotLogEvents { events: Vec<OutputLogEvent>, next_forward_token: String, next_backward_token: String });
output!(OutputLogEvent { timestamp: i64, message: String, ingestion_time: i64 });

input!(FilterLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
});
output!(FilteredLogEvents {
    events: Vec<FilteredLogEvent>,
    searched_log_streams: Vec<String>,
    next_token: Option<String>,
});
output!(FilteredLogEvent {
    log_stream_name: String,
    timestamp: i64,
    message: String,
    ingestion_time: i64,
    event_id: String,
});
