/// The warehouse and what is remembered of it, in memory: what `ModelDriver.definition` has to come to,
/// written down from what the words mean and not from any SQL. An event at a time, in the order of the
/// IDs; no batches, no transactions, no plans.
struct WarehouseModel {
  struct Post: Hashable {
    var author: Int64
    var text: String
    var latitude: Double?
    var place: String?
    var visibility: String
    var isStale: Bool
    /// The keys of its JSON.
    var keys: Set<String>
    /// When somebody other than Lethe wrote the row last; nil if Lethe did.
    var writtenAt: Int?
  }

  struct User: Hashable {
    var displayName: String?
    var visibility: String
    var writtenAt: Int?
  }

  struct Repost: Hashable {
    var original: Int64
    var text: String
  }

  /// A chunk, its job's answer, and how far it has come.
  struct Chunk {
    let type: String
    let ids: Set<Int64>
    let range: ClosedRange<Int64>
    /// The clock's time of the export.
    let exportedAt: Int
    /// When the API made the job; the order of the answers.
    let askedAt: Int
    let answer: [Int64: Answer]
    /// What is collected of it: events, and IDs that came back clean.
    var waiting: [Int64: Waiting] = [:]
    var isCollected = false
  }

  struct Answer: Hashable {
    var reason: String
    var redactedAt: Int?
  }

  struct Waiting {
    var answer: Answer
    var restores: Bool
    var isSuperseded = false
  }

  struct Record: Hashable, Comparable, CustomStringConvertible {
    var type: String
    var id: Int64
    var reason: String
    var action: String
    var cause: Int64?
    var isSuperseded: Bool

    var description: String {
      "\(action) \(type) \(id) \(reason) cause \(cause ?? 0)\(isSuperseded ? " superseded" : "")"
    }

    static func < (left: Self, right: Self) -> Bool { left.description < right.description }
  }

  struct Key: Hashable, Comparable {
    var type: String
    var id: Int64

    static func < (left: Self, right: Self) -> Bool {
      (left.type, left.id) < (right.type, right.id)
    }
  }

  private struct Seen: Hashable {
    var id: Int64
    var redactedAt: Int
  }

  var posts: [Int64: Post] = [:]
  var users: [Int64: User] = [:]
  /// How many media a post has.
  var media: [Int64: Int] = [:]
  var reposts: [Int64: Repost] = [:]

  var chunks: [Chunk] = []
  var clock = 0
  private(set) var tombstones: [Key: String] = [:]
  /// By type and ID, when the answer that it rests on was asked for.
  private(set) var protections: [Key: Int] = [:]
  var rehydrations: Set<Int64> = []
  private(set) var records: [Record] = []
  private var editsSeen: Set<Seen> = []

  // MARK: Collect

  mutating func collect(_ index: Int) {
    let type = chunks[index].type
    let chunk = chunks[index]
    for (id, answer) in chunk.answer {
      let isLight = ["geo_scrubbed", "tweet_edited"].contains(answer.reason)
      chunks[index].waiting[id] = Waiting(
        answer: answer, restores: isLight && isOlder(protections[Key(type: type, id: id)], chunk))
    }
    for id in chunk.ids where chunk.answer[id] == nil {
      if isOlder(protections[Key(type: type, id: id)], chunk) {
        chunks[index].waiting[id] = Waiting(answer: Answer(reason: "clean"), restores: true)
      }
    }
    for other in chunks.indices where chunks[other].type == type && chunks[other].isCollected {
      if chunks[other].askedAt < chunk.askedAt {
        // Its own IDs are asked about again, and this answer is the newer one.
        for id in chunks[other].waiting.keys where chunk.ids.contains(id) {
          chunks[other].waiting[id]?.isSuperseded = true
        }
      } else if chunks[other].askedAt > chunk.askedAt {
        for id in chunks[index].waiting.keys where chunks[other].range.contains(id) {
          chunks[index].waiting[id]?.isSuperseded = true
        }
      }
    }
    chunks[index].isCollected = true
  }

  private func isOlder(_ protection: Int?, _ chunk: Chunk) -> Bool {
    protection.map { $0 < chunk.askedAt } ?? false
  }

  // MARK: Apply

  mutating func apply(_ index: Int) {
    let chunk = chunks[index]
    for (id, waiting) in chunk.waiting.sorted(by: { $0.key < $1.key }) {
      apply(id, waiting, chunk)
    }
    chunks[index].waiting = [:]
  }

  private mutating func apply(_ id: Int64, _ waiting: Waiting, _ chunk: Chunk) {
    let key = Key(type: chunk.type, id: id)
    let reason = waiting.answer.reason
    defer { if !waiting.isSuperseded { note(waiting.answer, id) } }
    guard !waiting.isSuperseded else {
      return record(key, reason, "ignore", isSuperseded: true)
    }
    if waiting.restores, isOlder(protections[key], chunk) {
      let protection = protections.removeValue(forKey: key)
      if restore(key, reason, chunk) { protections[key] = protection }
    }
    if chunk.type == "tweets" {
      applyToPost(id, waiting.answer, chunk)
    } else {
      applyToUser(id, reason, chunk)
    }
  }

  private mutating func note(_ answer: Answer, _ id: Int64) {
    guard answer.reason == "tweet_edited", let time = answer.redactedAt else { return }
    editsSeen.insert(Seen(id: id, redactedAt: time))
  }

  private mutating func applyToPost(_ id: Int64, _ answer: Answer, _ chunk: Chunk) {
    let key = Key(type: "tweets", id: id)
    let reason = answer.reason
    switch reason {
    case "deleted", "suspended":
      media[id] = nil
      for (repost, row) in reposts where row.original == id {
        if reason == "deleted" {
          reposts[repost] = nil
          remove(repost, reason, "delete", cause: id)
        } else if row.text != "" {
          reposts[repost]?.text = ""
          remove(repost, reason, "redact", cause: id)
        }
      }
      posts[id] = nil
      remove(key, reason)
      record(key, reason, "delete")
    case "bounced":
      media[id] = nil
      redactPost(id)
      remove(key, reason)
      record(key, reason, "redact")
    case "protected":
      protectPost(id)
      protect(key, chunk)
      record(key, reason, "protect")
    case "geo_scrubbed":
      if var post = posts[id],
        post.latitude != nil || post.place != "gone" || post.keys.contains("geo")
      {
        (post.latitude, post.place, post.writtenAt) = (nil, "gone", nil)
        post.keys.remove("geo")
        posts[id] = post
      }
      record(key, reason, "scrub_geo")
    case "tweet_edited":
      let isNews =
        answer.redactedAt.map { !editsSeen.contains(Seen(id: id, redactedAt: $0)) } ?? true
      if isNews {
        rehydrations.insert(id)
        if posts[id]?.isStale == false {
          posts[id]?.isStale = true
          posts[id]?.writtenAt = nil
        }
      }
      record(key, reason, "rehydrate")
    case "clean": record(key, reason, "restore")
    default: record(key, reason, "ignore")
    }
  }

  private mutating func applyToUser(_ id: Int64, _ reason: String, _ chunk: Chunk) {
    let key = Key(type: "users", id: id)
    let own = posts.filter { $0.value.author == id }.keys
    switch reason {
    case "deleted":
      for post in own {
        media[post] = nil
        posts[post] = nil
        remove(post, reason, "delete", cause: id)
      }
      users[id] = nil
      remove(key, reason)
      record(key, reason, "delete")
    case "suspended":
      for post in own where redactPost(post) { remove(post, reason, "redact", cause: id) }
      if users[id]?.displayName != nil {
        users[id]?.displayName = nil
        users[id]?.writtenAt = nil
      }
      remove(key, reason)
      record(key, reason, "redact")
    case "protected":
      for post in own where protectPost(post) {
        record(Key(type: "tweets", id: post), reason, "protect", cause: id)
      }
      if let user = users[id], user.visibility != "protected" {
        users[id]?.visibility = "protected"
        users[id]?.writtenAt = nil
      }
      protect(key, chunk)
      record(key, reason, "protect")
    case "clean": record(key, reason, "restore")
    default: record(key, reason, "ignore")
    }
  }

  /// - Returns: whether a row is newer than the export, and so keeps the protection alive.
  private mutating func restore(_ key: Key, _ reason: String, _ chunk: Chunk) -> Bool {
    var isPostponed = false
    func isNewer(_ writtenAt: Int?) -> Bool { (writtenAt ?? 0) > chunk.exportedAt }
    let rows =
      key.type == "tweets"
      ? posts.filter { $0.key == key.id } : posts.filter { $0.value.author == key.id }
    for (id, post) in rows where post.visibility == "protected" {
      if isNewer(post.writtenAt) {
        isPostponed = true
      } else if protections[Key(type: "tweets", id: id)] == nil,
        protections[Key(type: "users", id: post.author)] == nil
      {
        posts[id]?.visibility = "public"
        posts[id]?.writtenAt = nil
        if key.type == "users" {
          record(Key(type: "tweets", id: id), reason, "restore", cause: key.id)
        }
      }
    }
    if key.type == "users", let user = users[key.id], user.visibility == "protected" {
      if isNewer(user.writtenAt) {
        isPostponed = true
      } else {
        users[key.id]?.visibility = "public"
        users[key.id]?.writtenAt = nil
      }
    }
    return isPostponed
  }

  @discardableResult
  private mutating func protectPost(_ id: Int64) -> Bool {
    guard let post = posts[id], post.visibility != "protected" else { return false }
    posts[id]?.visibility = "protected"
    posts[id]?.writtenAt = nil
    return true
  }

  @discardableResult
  private mutating func redactPost(_ id: Int64) -> Bool {
    guard let post = posts[id], post.text != "" else { return false }
    posts[id]?.text = ""
    posts[id]?.writtenAt = nil
    return true
  }

  private mutating func protect(_ key: Key, _ chunk: Chunk) {
    if protections[key].map({ $0 <= chunk.askedAt }) ?? true { protections[key] = chunk.askedAt }
  }

  private mutating func remove(_ key: Key, _ reason: String) {
    if tombstones[key] == nil { tombstones[key] = reason }
    protections[key] = nil
  }

  /// A row that an event about another ID takes away.
  private mutating func remove(_ post: Int64, _ reason: String, _ action: String, cause: Int64) {
    let key = Key(type: "tweets", id: post)
    if tombstones[key] == nil { tombstones[key] = reason }
    record(key, reason, action, cause: cause)
  }

  private mutating func record(
    _ key: Key, _ reason: String, _ action: String, cause: Int64? = nil,
    isSuperseded: Bool = false
  ) {
    records.append(
      Record(
        type: key.type, id: key.id, reason: reason, action: action, cause: cause,
        isSuperseded: isSuperseded))
  }
}
