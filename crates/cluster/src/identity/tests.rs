//! A folder is one node of one cluster, for ever.

use super::*;

pub(crate) fn token() -> ClusterToken {
    "the token of the tests".parse().unwrap()
}

fn hosts() -> Vec<String> {
    (1..=3).map(|n| format!("host-{n}:7000")).collect()
}

pub(crate) fn founder() -> Origin {
    Origin::founder(hosts(), "host-2:7000").unwrap()
}

#[test]
fn a_folder_is_the_same_node_of_the_same_cluster_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let folder = DataFolder::open(&path, &token(), founder()).unwrap();
    assert_eq!((folder.cluster(), folder.origin().meta_replica()), (None, Some(ReplicaId(2))));
    folder.learn_cluster(ClusterUuid([3; 16])).unwrap();

    let again = DataFolder::open(&path, &token(), founder()).unwrap();
    assert_eq!(again.node(), folder.node());
    assert_eq!(again.cluster(), Some(ClusterUuid([3; 16])));
    again.learn_cluster(ClusterUuid([3; 16])).unwrap();
    let refused = again.learn_cluster(ClusterUuid([4; 16])).unwrap_err().to_string();
    assert!(refused.contains("belongs to cluster 0303") && refused.contains("not to cluster 0404"), "{refused}");

    let other = DataFolder::open(root.path().join("other"), &token(), founder()).unwrap();
    assert_ne!(other.node(), folder.node());
}

#[test]
fn another_token_list_or_place_is_refused() {
    let root = tempfile::tempdir().unwrap();
    DataFolder::open(root.path(), &token(), founder()).unwrap();
    let open = |token: &str, origin| DataFolder::open(root.path(), &token.parse().unwrap(), origin).unwrap_err();

    let refused = open("some other cluster's token", founder());
    assert!(matches!(refused, FolderError::Token { .. }), "{refused}");

    let mut longer = hosts();
    longer.push("host-4:7000".into());
    let refused = open("the token of the tests", Origin::founder(longer, "host-2:7000").unwrap()).to_string();
    let reason = "was started as host 2 of the initial hosts host-1:7000,host-2:7000,host-3:7000, not as host 2 of \
                  the initial hosts host-1:7000,host-2:7000,host-3:7000,host-4:7000: start it as before";
    assert!(refused.contains(reason), "{refused}");

    let refused = open("the token of the tests", Origin::founder(hosts(), "host-1:7000").unwrap());
    assert!(matches!(refused, FolderError::Origin { .. }), "{refused}");
    let refused = open("the token of the tests", Origin::Joined).to_string();
    assert!(refused.contains("not to join a cluster"), "{refused}");
}

#[test]
fn foreign_folders_are_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("photo.jpg"), "x").unwrap();
    let refused = DataFolder::open(root.path(), &token(), founder()).unwrap_err();
    assert!(matches!(&refused, FolderError::Foreign { found, .. } if found == "photo.jpg"), "{refused}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn other_formats_and_damaged_identities_are_refused() {
    let root = tempfile::tempdir().unwrap();
    DataFolder::open(root.path(), &token(), founder()).unwrap();
    let file = root.path().join(FILE);
    let good = fs::read_to_string(&file).unwrap();
    let open_with = |text: &str| {
        fs::write(&file, text).unwrap();
        DataFolder::open(root.path(), &token(), founder()).unwrap_err()
    };
    assert!(matches!(open_with(&good.replace("format = 1", "format = 2")), FolderError::Format { found: 2, .. }));
    for damaged in ["", "hello", &good[..good.len() / 2], &good.replace("node = ", "node = zz")] {
        let refused = open_with(damaged);
        assert!(matches!(refused, FolderError::Damaged { .. }), "{damaged:?}: {refused}");
    }
}

#[test]
fn an_interrupted_first_write_is_begun_again() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(NEW_FILE), "conclave ide").unwrap();
    DataFolder::open(root.path(), &token(), founder()).unwrap();
    assert!(!root.path().join(NEW_FILE).exists());
}

#[test]
fn the_first_three_or_five_hosts_hold_the_metadata_group() {
    for (hosts, meta) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (9, 5)] {
        let list: Vec<String> = (0..hosts).map(|n| format!("host-{n}:1")).collect();
        let replicas: Vec<_> =
            list.iter().filter_map(|host| Origin::founder(list.clone(), host).unwrap().meta_replica()).collect();
        assert_eq!(replicas, (1..=meta).map(ReplicaId).collect::<Vec<_>>());
    }
    assert_eq!(Origin::Joined.meta_replica(), None);
}

#[test]
fn a_list_must_name_this_host_and_nobody_twice() {
    assert!(Origin::founder(hosts(), "host-9:7000").is_err());
    assert!(Origin::founder(vec!["a:1".into(), "a:1".into()], "a:1").is_err());
    assert!(Origin::founder(vec!["a".into()], "a").is_err());
}
