//! A first start that was interrupted, and the key that a log was sealed with.

use super::*;

/// What lies in the directory of the key, but for the log.
fn beside_the_log(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.root.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "audit").collect();
    names.sort();
    names
}

/// A key that another log has made.
async fn another_key() -> String {
    let other = World::new();
    other.fill(1).await;
    fs::read_to_string(&other.params.checkpoint_key).unwrap()
}

/// A full disk, a crash or a power cut: what it leaves of the key's file is made anew, whether it is the file itself (that is how
/// earlier versions wrote it) or the one that was to take its place.
#[tokio::test]
async fn a_first_start_that_was_interrupted_needs_nobody() {
    let pem = another_key().await;
    let half = &pem[..pem.len() / 2];
    let zeros = "\0".repeat(pem.len());
    let left = [
        (Some(""), None),
        (Some(zeros.as_str()), None),
        (None, Some("")),
        (None, Some(half)),
        (None, Some(pem.as_str())),
        (Some(""), Some(half)),
    ];
    for (key, unfinished) in left {
        let world = World::new();
        let path = &world.params.checkpoint_key;
        key.map_or(Ok(()), |text| fs::write(path, text)).unwrap();
        let beside = path.with_file_name(".audit-signing.key.tmp");
        unfinished.map_or(Ok(()), |text| fs::write(beside, text)).unwrap();
        world.fill(1).await;
        assert_eq!(beside_the_log(&world), ["audit-signing.key"], "{key:?} {unfinished:?}");
        let made = fs::read_to_string(path).unwrap();
        assert_ne!(made, pem, "nobody knows how the other came there");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        world.fill(1).await;
        assert_eq!(fs::read_to_string(path).unwrap(), made);
        assert_eq!(world.verify().findings, []);
    }
}

/// A line that somebody else has signed, or nobody, is not in the way of a start, and stays.
#[tokio::test]
async fn what_others_wrote_beside_the_checkpoints_stays() {
    let world = World::new();
    world.fill(1).await;
    let file = &world.files("checkpoints")[0];
    let foreign = "what others wrote\n";
    let before = fs::read_to_string(file).unwrap() + foreign;
    fs::write(file, &before).unwrap();
    world.fill(1).await;
    let after = fs::read_to_string(file).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len(), "{after}");
}

/// Once something was sealed, no crash explains that its key is gone: somebody has to say where it is, or that another one is to
/// sign from now on, by putting it there.
#[tokio::test]
async fn a_log_that_was_sealed_wants_its_key() {
    let pem = another_key().await;
    let zeros = "\0".repeat(pem.len());
    let damaged = [None, Some(""), Some(zeros.as_str()), Some(&pem[..pem.len() / 2])];
    for (text, checkpoints) in damaged.into_iter().flat_map(|text| [(text, true), (text, false)]) {
        let world = World::new();
        world.fill(1).await;
        let path = &world.params.checkpoint_key;
        let own = fs::read(path).unwrap();
        if !checkpoints {
            world.files("checkpoints").iter().for_each(|file| fs::remove_file(file).unwrap());
        }
        fs::remove_file(path).unwrap();
        text.map_or(Ok(()), |text| fs::write(path, text)).unwrap();
        let before = world.snapshot();
        let opened = open(&world.params, world.metrics.audit());
        let said = opened.expect_err("a key is missed").to_string();
        assert!(said.contains("audit-signing.key") && said.contains("was signed with"), "{said}");
        assert!(world.snapshot() == before && fs::read_to_string(path).ok().as_deref() == text);
        if checkpoints {
            fs::write(path, own).unwrap();
            world.fill(1).await;
            assert_eq!(world.verify().findings, []);
        }
    }
}

/// Checkpoints alone say that there was a log; a file for them that holds nothing does not.
#[tokio::test]
async fn checkpoints_without_records_want_their_key_and_empty_ones_do_not() {
    for (text, wanted) in [("a checkpoint", true), ("", false), ("\0\0\0", false)] {
        let world = World::new();
        fs::create_dir_all(world.dir()).unwrap();
        fs::write(world.dir().join("checkpoints"), text).unwrap();
        let opened = open(&world.params, world.metrics.audit());
        let said = opened.map(drop).map_err(|error| error.to_string());
        assert_eq!(said.is_err_and(|said| said.contains("was signed with")), wanted, "{text:?}");
        assert_eq!(world.params.checkpoint_key.exists(), !wanted, "{text:?}");
    }
}

/// What cannot be read may be the key all the same: nothing takes its place.
#[tokio::test]
async fn a_key_that_cannot_be_read_is_let_be() {
    let world = World::new();
    let path = &world.params.checkpoint_key;
    std::os::unix::fs::symlink(path, path).unwrap();
    let opened = open(&world.params, world.metrics.audit());
    let said = opened.expect_err("it leads to itself").to_string();
    assert!(said.contains("audit-signing.key"), "{said}");
    assert!(fs::symlink_metadata(path).unwrap().is_symlink(), "{said}");
}
