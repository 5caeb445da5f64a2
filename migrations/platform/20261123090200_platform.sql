-- What the platform knows of its accounts and posts: the state that compliance answers derive from.
-- migrate:up
CREATE SCHEMA platform;

CREATE TYPE platform.account_state AS ENUM (
    'active', 'protected', 'suspended', 'deactivated', 'deleted'
);

CREATE TABLE platform.accounts (
    account_id       bigint PRIMARY KEY,
    username         text NOT NULL,
    created_at       timestamptz NOT NULL,
    state            platform.account_state NOT NULL DEFAULT 'active',
    -- When it came to that state; an active account that never changed has none.
    state_changed_at timestamptz,
    CHECK (state = 'active' OR state_changed_at IS NOT NULL)
);

CREATE TABLE platform.posts (
    post_id        bigint PRIMARY KEY,
    author_id      bigint NOT NULL REFERENCES platform.accounts,
    created_at     timestamptz NOT NULL,
    -- Each is null until it happened.
    deleted_at     timestamptz,
    edited_at      timestamptz,
    geo_removed_at timestamptz
);
CREATE INDEX posts_author_id ON platform.posts (author_id);

-- migrate:down
DROP SCHEMA platform CASCADE;
