//! The managed policies of the reference that mean something here, as far as Flint has what they are about.
//!
//! One that is not in the table can be attached, as tools do it, and allows nothing.
//!
//! Reference: AWS Managed Policy Reference Guide.

const LOGS: [&str; 3] = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"];

/// The actions that the policy with this ARN allows on every resource; `None` if it is not known here.
pub(crate) fn actions(arn: &str) -> Option<Vec<&'static str>> {
    let name = arn.strip_prefix("arn:aws:iam::aws:policy/")?;
    let actions: &[&'static str] = match name {
        "AdministratorAccess" => &["*"],
        "AmazonSQSFullAccess" => &["sqs:*"],
        "AmazonSQSReadOnlyAccess" => &[
            "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl",
            "sqs:ListDeadLetterSourceQueues",
            "sqs:ListMessageMoveTasks",
            "sqs:ListQueueTags",
            "sqs:ListQueues",
        ],
        // The reference lets roles be passed to Lambda only; there is nothing else here that they could be passed to.
        "AWSLambda_FullAccess" => &[
            "lambda:*",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:ListRoles",
            "iam:PassRole",
            "logs:DescribeLogStreams",
            "logs:FilterLogEvents",
            "logs:GetLogEvents",
        ],
        "AWSLambda_ReadOnlyAccess" => &["lambda:Get*", "lambda:List*"],
        "CloudWatchLogsFullAccess" => &["logs:*"],
        "service-role/AWSLambdaBasicExecutionRole" => &LOGS,
        "service-role/AWSLambdaRole" => &["lambda:InvokeFunction"],
        "service-role/AWSLambdaSQSQueueExecutionRole" => {
            let own = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];
            return Some(own.into_iter().chain(LOGS).collect());
        }
        _ => return None,
    };
    Some(actions.to_vec())
}
