-- The reference warehouse that the demo and the tests use. Nobody's production database needs it.
-- migrate:up
CREATE SCHEMA warehouse;

CREATE TABLE warehouse.users (
    user_id      bigint PRIMARY KEY,
    username     text NOT NULL,
    display_name text,
    location     text,
    visibility   text NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'protected')),
    created_at   timestamptz NOT NULL,
    ingested_at  timestamptz NOT NULL DEFAULT now(),
    raw          jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE warehouse.posts (
    post_id     bigint PRIMARY KEY,
    author_id   bigint NOT NULL,
    text        text NOT NULL,
    latitude    double precision,
    longitude   double precision,
    place_id    text,
    visibility  text NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'protected')),
    created_at  timestamptz NOT NULL,
    ingested_at timestamptz NOT NULL DEFAULT now(),
    raw         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX posts_author_id ON warehouse.posts (author_id);

CREATE TABLE warehouse.post_media (
    post_id   bigint NOT NULL REFERENCES warehouse.posts,
    media_key text NOT NULL,
    url       text NOT NULL,
    PRIMARY KEY (post_id, media_key)
);

-- A repost carries a copy of the original's text; the original itself may not be stored.
CREATE TABLE warehouse.reposts (
    repost_id        bigint PRIMARY KEY,
    reposted_post_id bigint NOT NULL,
    author_id        bigint NOT NULL,
    text             text NOT NULL,
    created_at       timestamptz NOT NULL
);
CREATE INDEX reposts_reposted_post_id ON warehouse.reposts (reposted_post_id);
CREATE INDEX reposts_author_id ON warehouse.reposts (author_id);

-- migrate:down
DROP SCHEMA warehouse CASCADE;
