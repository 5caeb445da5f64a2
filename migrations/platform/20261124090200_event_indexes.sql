-- What compliance answers read, in the order they read it and without touching the tables: the posts with events of
-- their own, and the posts of the authors who have one.
-- migrate:up
CREATE INDEX posts_with_events ON platform.posts (post_id)
    INCLUDE (created_at, deleted_at, bounced_at, edited_at, geo_removed_at)
    WHERE deleted_at IS NOT NULL OR bounced_at IS NOT NULL OR edited_at IS NOT NULL OR geo_removed_at IS NOT NULL;
CREATE INDEX posts_of_author ON platform.posts (author_id) INCLUDE (post_id, created_at);
DROP INDEX platform.posts_author_id;

-- migrate:down
CREATE INDEX posts_author_id ON platform.posts (author_id);
DROP INDEX platform.posts_of_author;
DROP INDEX platform.posts_with_events;
