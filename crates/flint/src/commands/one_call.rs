//! The lines of one call among those of a log group: from its START to its REPORT, with what carries no id in between.

use flint_dev::client::logs::LogEvent;

/// Picks the lines of one request, told in their order.
#[derive(Debug)]
pub(super) struct OneCall {
    id: String,
    /// The stream in which the call runs now.
    within: Option<String>,
}

impl OneCall {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), within: None }
    }

    /// Whether the line belongs to the call.
    pub(super) fn takes(&mut self, event: &LogEvent) -> bool {
        let text = event.message.trim_start();
        let named = text.contains(&self.id);
        let begins = named && (text.starts_with("START RequestId:") || text.contains("\"platform.start\""));
        let ends = named && (text.starts_with("REPORT RequestId:") || text.contains("\"platform.report\""));
        if begins {
            self.within = Some(event.log_stream_name.clone());
        }
        let taken = named || self.within.as_ref() == Some(&event.log_stream_name);
        if ends {
            self.within = None;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_no_id_is_found_between_start_and_report() {
        let mut call = OneCall::new("11-aa");
        let lines = [
            ("s", "INIT_START", false),
            ("s", "START RequestId: 00-bb Version: 1", false),
            ("s", "REPORT RequestId: 00-bb", false),
            ("s", "START RequestId: 11-aa Version: 1", true),
            ("s", "raw", true),
            ("other", "raw", false),
            ("s", "END RequestId: 11-aa", true),
            ("s", "REPORT RequestId: 11-aa Duration: 1 ms", true),
            ("s", "raw", false),
            ("other", "named 11-aa elsewhere", true),
            ("s", "{\"type\":\"platform.start\",\"record\":{\"requestId\":\"11-aa\"}}", true),
            ("s", "raw", true),
        ];
        for (stream, message, expected) in lines {
            let event = LogEvent {
                event_id: String::new(),
                log_stream_name: stream.into(),
                timestamp: 0,
                ingestion_time: 0,
                message: message.into(),
            };
            assert_eq!(call.takes(&event), expected, "{message}");
        }
    }
}
