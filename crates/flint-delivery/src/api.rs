//! The documents of the operations, with names as in the Lambda API reference.

use flint_base::Timestamp;
use serde::{Deserialize, Serialize};

/// `DestinationConfig.OnSuccess` and `.OnFailure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Destination {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DestinationConfig {
    pub on_success: Option<Destination>,
    pub on_failure: Option<Destination>,
}

/// `PutFunctionEventInvokeConfig` and `UpdateFunctionEventInvokeConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventInvokeConfigInput {
    pub function_name: String,
    #[serde(default)]
    pub qualifier: Option<String>,
    #[serde(default)]
    pub maximum_retry_attempts: Option<u32>,
    #[serde(default)]
    pub maximum_event_age_in_seconds: Option<u32>,
    #[serde(default)]
    pub destination_config: Option<DestinationConfig>,
}

/// `GetFunctionEventInvokeConfig` and `DeleteFunctionEventInvokeConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionInput {
    pub function_name: String,
    #[serde(default)]
    pub qualifier: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListEventInvokeConfigsInput {
    pub function_name: String,
    #[serde(default)]
    pub marker: Option<String>,
    #[serde(default)]
    pub max_items: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionEventInvokeConfig {
    pub last_modified: Timestamp,
    pub function_arn: String,
    pub maximum_retry_attempts: Option<u32>,
    pub maximum_event_age_in_seconds: Option<u32>,
    pub destination_config: DestinationConfig,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListEventInvokeConfigsOutput {
    pub function_event_invoke_configs: Vec<FunctionEventInvokeConfig>,
    pub next_marker: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Filter {
    pub pattern: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FilterCriteria {
    pub filters: Vec<Filter>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ScalingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_concurrency: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateMappingInput {
    pub function_name: String,
    #[serde(default)]
    pub event_source_arn: Option<String>,
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub batch_size: Option<u32>,
    #[serde(default)]
    pub maximum_batching_window_in_seconds: Option<u32>,
    #[serde(default)]
    pub filter_criteria: Option<FilterCriteria>,
    #[serde(default)]
    pub scaling_config: Option<ScalingConfig>,
    #[serde(default)]
    pub function_response_types: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateMappingInput {
    #[serde(rename = "UUID")]
    pub uuid: String,
    #[serde(default)]
    pub function_name: Option<String>,
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub batch_size: Option<u32>,
    #[serde(default)]
    pub maximum_batching_window_in_seconds: Option<u32>,
    #[serde(default)]
    pub filter_criteria: Option<FilterCriteria>,
    #[serde(default)]
    pub scaling_config: Option<ScalingConfig>,
    #[serde(default)]
    pub function_response_types: Option<Vec<String>>,
}

/// `GetEventSourceMapping` and `DeleteEventSourceMapping`.
#[derive(Debug, Deserialize)]
pub struct MappingInput {
    #[serde(rename = "UUID")]
    pub uuid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListMappingsInput {
    pub event_source_arn: Option<String>,
    pub function_name: Option<String>,
    pub marker: Option<String>,
    pub max_items: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListMappingsOutput {
    pub event_source_mappings: Vec<MappingConfiguration>,
    pub next_marker: Option<String>,
}

/// What the operations answer of a mapping of a queue; `LastProcessingResult` belongs to streams.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MappingConfiguration {
    #[serde(rename = "UUID")]
    pub uuid: String,
    pub batch_size: u32,
    pub maximum_batching_window_in_seconds: u32,
    pub event_source_arn: String,
    pub filter_criteria: Option<FilterCriteria>,
    pub scaling_config: Option<ScalingConfig>,
    pub function_arn: String,
    pub last_modified: Timestamp,
    pub state: &'static str,
    pub state_transition_reason: &'static str,
    pub function_response_types: Vec<&'static str>,
    pub event_source_mapping_arn: String,
}
