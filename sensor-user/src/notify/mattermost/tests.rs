//! What is posted, to the letter.

use sensor_core::incident::Change;
use serde_json::json;

use crate::notify::testing::{Answer, Fake, Rig, incident};

#[tokio::test]
async fn an_event_is_a_message_with_an_attachment() {
    let mattermost = Fake::start(|_, _| Answer::Json(200, json!("ok"))).await;
    let rig = Rig::start(&format!(
        "dashboard = \"https://leuko.example\"\n[[mattermost]]\nurl = \"{}/hooks/x\"\nchannel = \"soc\"\n",
        mattermost.url
    ));
    rig.send(Change::Opened, &incident("a"));
    assert_eq!(
        mattermost.wait_for(1).await[0].body,
        json!({
            "channel": "soc",
            "attachments": [{
                "fallback": "🟡 Port scan · medium · web-1",
                "color": "#d29922",
                "title": "🟡 Port scan · medium · web-1",
                "title_link": "https://leuko.example/incidents/a",
                "text": "203.0.113.5 probed 812 ports of 192.0.2.10 <\u{200b}tcp\\> &\u{200b} more\n\n\
                    **From** `203.0.113.5`\n**To** `192.0.2.10`\n**Ports** 22, 80, 443\n\
                    **Since** 2025-06-15 15:06:40 UTC\n**Score** 0.93",
                "fields": [
                    {"title": "failed\\_ratio", "value": "0.988", "short": true},
                    {"title": "ports", "value": "812", "short": true},
                ],
                "footer": "web-1 · a.1",
            }],
        })
    );
}
