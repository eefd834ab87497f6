//! The disks of two of three voters are lost for ever, and the third goes on by a person's word with everything that was acknowledged; and what an
//! export of a running cluster brings back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;
use weir_broker::config::Config;
use weir_broker::metadata_files::{self, MetadataCommand, MetadataError};
use weir_broker::start::{OnFatal, Running, start};
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_quorum::export::Export;
use weir_tls::{Role, Tls, directory};

use crate::client::{Client, PATIENCE, TestBroker, batch, channel, eventually, values};
use crate::cluster::cluster_with;
use crate::replication::{create, in_sync, leader, produce};

fn restore(
    data_dir: PathBuf,
    broker_id: i32,
    from: Option<&Path>,
    accept_loss: bool,
) -> (String, Result<(), MetadataError>) {
    let command = MetadataCommand::Restore {
        data_dir,
        broker_id,
        from: from.map(Path::to_owned),
        accept_loss,
    };
    let mut told = Vec::new();
    let outcome = metadata_files::run(&command, &mut told);
    (String::from_utf8(told).unwrap(), outcome)
}

async fn started(configs: &[Config]) -> Vec<Running> {
    let mut starting = JoinSet::new();
    for (id, config) in configs.iter().cloned().enumerate() {
        let on_fatal: OnFatal = Arc::new(|what: &str| eprintln!("fatal: {what}"));
        starting.spawn(async move { (id, start(config, on_fatal).await.unwrap()) });
    }
    let all = tokio::time::timeout(PATIENCE, starting.join_all()).await;
    let mut all = all.unwrap();
    all.sort_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, broker)| broker).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_most_disks_lost_the_last_one_goes_on_with_all_that_was_acknowledged() {
    let (mut brokers, configs, dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t").await;
    for number in 0..20 {
        let all: Vec<&Running> = brokers.iter().collect();
        let value = number.to_string();
        assert_eq!(produce(&all, "t", batch(&[&value])).await, number);
    }
    eventually("everyone has everything", async || {
        (in_sync(&brokers[2], "t") == 3).then_some(())
    })
    .await;
    let id = brokers[2].broker().metadata.cluster_id();
    // While two are left to agree on it, one that stops is out of sync: what is lost here is lost before that.
    let last = brokers.remove(2);
    for broker in brokers {
        broker.stop().await;
    }
    last.stop().await;
    for lost in ["0", "1"] {
        fs::remove_dir_all(dir.path().join(lost)).unwrap();
    }

    let survivor = dir.path().join("2");
    let (told, refused) = restore(survivor.clone(), 2, None, false);
    assert!(
        matches!(refused, Err(MetadataError::NotAccepted)) && told.contains("never be used again"),
        "{told}"
    );
    let (told, done) = restore(survivor, 2, None, true);
    done.unwrap();
    assert!(told.contains("Done: start broker 2"), "{told}");

    let brokers = started(&configs).await;
    assert_eq!(brokers[0].broker().metadata.cluster_id(), id);
    eventually("everyone has everything again", async || {
        (in_sync(&brokers[0], "t") == 3).then_some(())
    })
    .await;
    let all: Vec<&Running> = brokers.iter().collect();
    assert_eq!(produce(&all, "t", batch(&["more"])).await, 20);
    let at = leader(&brokers[0], "t").unwrap();
    let mut client = Client::connect(brokers[at].addresses().kafka).await;
    let read = values(&client.fetch_from("t", 0, 0).await);
    let kept = (0..20).map(|number| (number, number.to_string()));
    let expected: Vec<_> = kept.chain([(20, "more".to_owned())]).collect();
    assert_eq!(read, expected);
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test]
async fn an_export_has_what_a_cluster_is_and_makes_it_anew_on_an_empty_disk() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("kept", 3, &[("retention.ms", "5000")])
        .await;
    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let exported = admin.export_metadata(proto::ExportMetadataRequest {}).await;
    let json = exported.unwrap().into_inner().json;
    let export = Export::parse(&json).unwrap();
    let topic = broker.running.broker().metadata.image();
    let topic = topic.topic("kept").unwrap();
    assert_eq!(export.image().unwrap().topic("kept"), Some(topic));
    let (id, topic_id) = (broker.running.broker().metadata.cluster_id(), topic.id);
    drop(client);

    let disk = broker.stop().await;
    let file = disk.path().join("export.json");
    // The same from the disk, without a broker.
    let mut printed = Vec::new();
    let data_dir = crate::client::config(&disk, "").data_dir;
    let command = MetadataCommand::Export {
        data_dir: data_dir.clone(),
    };
    metadata_files::run(&command, &mut printed).unwrap();
    let of_the_disk = Export::parse(std::str::from_utf8(&printed).unwrap()).unwrap();
    assert_eq!(of_the_disk.cluster_id, export.cluster_id);

    fs::write(&file, json).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let data_dir = crate::client::config(&empty, "").data_dir;
    fs::create_dir_all(&data_dir).unwrap();
    let (told, done) = restore(data_dir, 0, Some(&file), true);
    done.unwrap();
    assert!(told.contains("without any message"), "{told}");
    let broker = TestBroker::on(empty, "").await;
    assert_eq!(broker.running.broker().metadata.cluster_id(), id);
    let image = broker.running.broker().metadata.image();
    let topic = image.topic("kept").unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (topic_id, 3));
    assert_eq!(topic.config["retention.ms"], "5000");
    let mut client = broker.connect().await;
    let answer = client.produce("kept", 2, batch(&["first"])).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    broker.stop().await;
}

#[tokio::test]
async fn the_operator_may_ask_for_an_export() {
    let (brokers, _, dir) = cluster_with("").await;
    let tls = Tls::from_files(directory::files(&dir.path().join("tls"), Role::Operator)).unwrap();
    let mut admin = AdminClient::new(channel(brokers[1].addresses().quorum, tls));
    let exported = admin.export_metadata(proto::ExportMetadataRequest {}).await;
    let export = Export::parse(&exported.unwrap().into_inner().json).unwrap();
    assert_eq!(export.image().unwrap().brokers().len(), 3);
    for broker in brokers {
        broker.stop().await;
    }
}
