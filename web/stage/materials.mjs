/** Materials of the head: three.js' physical material with what the pack's own renderer does beside it. */
import * as THREE from "./three.min.mjs";

/** How far a lamp's light reaches past the terminator of skin, RGB, as a cosine: the lamp's size and scattering, as in portrait/. */
const WRAP = [0.085, 0.06, 0.052];

/** The film curve of fitdiff_core/render/tone.py: linear up to START, then a shoulder towards white. */
export const FILM = /* glsl */ `
vec3 CustomToneMapping( vec3 color ) {
    color = max( color * toneMappingExposure, 0.0 );
    const float start = 0.6;
    float peak = max( color.r, max( color.g, color.b ) );
    if ( peak < start ) return color;
    float d = 1.0 - start;
    float pressed = 1.0 - d * d / ( peak + d - start );
    color *= pressed / peak;
    float pale = 1.0 - 1.0 / ( 0.12 * ( peak - pressed ) + 1.0 );
    return mix( color, vec3( pressed ), pale );
}`;

export function useFilm() {
    const chunk = THREE.ShaderChunk;
    const plain = "vec3 CustomToneMapping( vec3 color ) { return color; }";
    if (chunk.tonemapping_pars_fragment.includes(plain))
        chunk.tonemapping_pars_fragment = chunk.tonemapping_pars_fragment.replace(plain, FILM);
}

/** Shadow lookups with `taps` samples over `wide` times the radius, so that a wide penumbra shows no grain. */
function smoothShadows(taps = 20, wide = 1) {
    return THREE.ShaderChunk.shadowmap_pars_fragment.replace(/shadow = \(\s*texture\( shadowMap[\s\S]*?\) \* 0\.2;/, `
        shadow = 0.0;
        for ( int i = 0; i < ${taps}; i ++ )
            shadow += texture( shadowMap, vec3( shadowCoord.xy + vogelDiskSample( i, ${taps}, phi ) * radius * ${wide.toFixed(1)}, shadowCoord.z ) );
        shadow *= ${(1 / taps).toFixed(5)};`);
}

const DIFFUSE = "reflectedLight.directDiffuse += irradiance * diffuseBRDF * ( 1.0 - F );";
const SPECULAR = "reflectedLight.directSpecular += irradiance * specularBRDF * material.multiScatteringCompensation;";
const SEEN = /directLight\.color \*= \( directLight\.visible && receiveShadow \) \? (getShadow\( directionalShadowMap[\s\S]*?\)) : 1\.0;/;

/** Light on skin goes past the terminator, and a shadow begins softly there, with a red edge. */
const SKIN = {
    diffuse: `
        const vec3 reach = vec3( ${WRAP.join(", ")} );
        float bare = dot( geometryNormal, directLight.direction );
        reflectedLight.directDiffuse += directLight.color * diffuseBRDF * max( bare + reach, 0.0 ) / ( ( 1.0 + reach ) * ( 1.0 + reach ) );`,
    seen: `{
        float seen = ( directLight.visible && receiveShadow ) ? $1 : 1.0;
        float facing = smoothstep( -0.1, 0.3, dot( geometryNormal, directLight.direction ) );
        directLight.color *= pow( vec3( mix( 1.0, seen, facing ) ), vec3( 0.9, 1.0, 1.02 ) );
    }`,
};

/** Strands as in shade_hair of render/hair.py: two highlights along them; light fades within the hair. */
const HAIR = {
    specular: "",
    diffuse: `
        vec3 strand = normalize( vAlong );
        vec3 face = dot( geometryNormal, geometryViewDir ) < - 0.3 ? - geometryNormal : geometryNormal;
        vec3 tone = material.diffuseContribution / max( vColor.r, 0.05 );
        float sineL = clamp( dot( strand, directLight.direction ), -1.0, 1.0 );
        float sineV = clamp( dot( strand, geometryViewDir ), -1.0, 1.0 );
        float cosine = dot( face, directLight.direction );
        float matte = sqrt( 1.0 - sineL * sineL ) * max( ( cosine + 0.35 ) / 1.35, 0.0 );
        float azimuth = saturate( 0.5 + 0.5 * ( dot( geometryViewDir, directLight.direction ) - sineL * sineV ) );
        float tilt = ( asin( sineL ) + asin( sineV ) ) / 2.0;
        float lit = saturate( ( cosine + 0.25 ) / 1.25 );
        float one = ( tilt + 0.06 ) / 0.12, two = ( tilt - 0.12 ) / 0.24;
        vec3 gleam = ( 0.10 * exp( - one * one ) + 0.85 * 0.55 * sqrt( max( tone, 1e-4 ) ) * exp( - two * two ) ) * ( 0.35 + 0.65 * azimuth );
        reflectedLight.directDiffuse += directLight.color * tone * matte * RECIPROCAL_PI;
        reflectedLight.directSpecular += directLight.color * 0.34 * vGloss * gleam * lit * sqrt( max( vColor.r, 0.0 ) );`,
    seen: `{
        float seen = ( directLight.visible && receiveShadow ) ? $1 : 1.0;
        directLight.color *= mix( 0.3, 1.0, seen );
    }`,
};

/**
 * Adds to a material what the attributes of its mesh say: `occlusion`, the share of light that arrives at a vertex,
 * which dims diffuse light once and specular light twice; `roughness`; and for hair the strands' direction and gloss.
 * uniforms: {dim: {value: 0..1}}, times the occlusion. kind: "skin", "eye" or "hair".
 */
export function patch(material, uniforms, kind) {
    const ways = { skin: SKIN, hair: HAIR }[kind] ?? {};
    material.onBeforeCompile = (shader) => {
        Object.assign(shader.uniforms, uniforms);
        const chunk = THREE.ShaderChunk;
        const varyings = "varying float vOcclusion, vRoughness, vGloss;\nvarying vec3 vAlong;\n";
        shader.vertexShader = shader.vertexShader
            .replace("#include <common>", `#include <common>\nattribute float occlusion, roughness, gloss;\nattribute vec3 along;\n${varyings}`)
            .replace("#include <begin_vertex>", `#include <begin_vertex>
                vOcclusion = occlusion; vRoughness = roughness; vGloss = gloss; vAlong = normalMatrix * along;`);
        const physical = chunk.lights_physical_pars_fragment
            .replace(DIFFUSE, ways.diffuse ?? DIFFUSE).replace(SPECULAR, ways.specular ?? SPECULAR);
        const begin = ways.seen ? chunk.lights_fragment_begin.replace(SEEN, ways.seen) : chunk.lights_fragment_begin;
        shader.fragmentShader = shader.fragmentShader
            .replace("#include <common>", `#include <common>\nuniform float dim;\n${varyings}`)
            .replace("#include <shadowmap_pars_fragment>", smoothShadows())
            .replace("#include <roughnessmap_fragment>", "float roughnessFactor = vRoughness;")
            .replace("#include <lights_physical_pars_fragment>", physical)
            .replace("#include <lights_fragment_begin>", begin)
            .replace("#include <lights_fragment_end>", `#include <lights_fragment_end>
                float arrives = vOcclusion * dim;
                reflectedLight.directDiffuse *= arrives;
                reflectedLight.indirectDiffuse *= arrives;
                reflectedLight.directSpecular *= arrives * arrives;
                reflectedLight.indirectSpecular *= arrives * arrives;
                #ifdef USE_CLEARCOAT
                    clearcoatSpecularDirect *= arrives * arrives;
                    clearcoatSpecularIndirect *= arrives * arrives;
                #endif`);
    };
    material.customProgramCacheKey = () => `fitdiff ${kind}`;
}

/** A wall that shows only the shadow on it, very soft. */
export function wallMaterial() {
    const material = new THREE.ShadowMaterial({ opacity: 0.3 });
    material.onBeforeCompile = (shader) => {
        shader.fragmentShader = shader.fragmentShader.replace("#include <shadowmap_pars_fragment>", smoothShadows(64, 18));
    };
    material.customProgramCacheKey = () => "fitdiff wall";
    return material;
}

/** One roughness in place of the textures of roughness and occlusion: the vertices have both, posed and under hair. */
export function plainRoughness(material) {
    if (!material.roughnessMap && !material.aoMap) return;
    for (const map of new Set([material.roughnessMap, material.metalnessMap, material.aoMap])) map?.dispose();
    Object.assign(material, { roughnessMap: null, metalnessMap: null, aoMap: null, roughness: 0.48 });
}

/** The reflectance at grazing angles of the pack's renderer, (1 - roughness)^2, with F0 as it was. */
export function roughRim(material) {
    const edge = Math.max((1 - material.roughness) ** 2, 0.05);
    material.specularColor.multiplyScalar(1 / edge);
    material.specularIntensity = edge;
}

/** Harmonics of a light, as `[9][3]`, or a panorama, drawn on the inside of a sphere for the environment map. */
export function skyMaterial(sh, panorama) {
    return new THREE.ShaderMaterial({
        side: THREE.BackSide, depthWrite: false, toneMapped: false,
        uniforms: {
            sh: { value: sh.map((c) => new THREE.Vector3(...c)) },
            map: { value: panorama?.texture ?? null },
            cap: { value: new THREE.Vector3(...(panorama?.direction ?? [0, 0, 1])) },
            floor3: { value: new THREE.Vector3(...(panorama?.floor ?? [0, 0, 0])) },
        },
        defines: panorama ? { PANORAMA: 1 } : {},
        vertexShader: `varying vec3 way;
            void main() { way = position; gl_Position = projectionMatrix * modelViewMatrix * vec4( position, 1.0 ); }`,
        fragmentShader: `varying vec3 way;
            uniform vec3 sh[ 9 ];
            uniform sampler2D map;
            uniform vec3 cap, floor3;
            void main() {
                vec3 d = normalize( way );
                #ifdef PANORAMA
                    // the centre of the panorama is +z; right of it lies -x
                    vec2 at = vec2( 0.5 - atan( d.x, d.z ) / 6.283185307, 0.5 + asin( clamp( d.y, -1.0, 1.0 ) ) / 3.141592654 );
                    vec3 c = textureLod( map, at, 0.0 ).rgb;
                    if ( dot( d, cap ) > 0.9396926 ) c = min( c, floor3 );  // the lamp stands for what is brighter there
                #else
                    vec3 c = sh[ 0 ] * 0.282094791773878 + 0.488602511902920 * ( sh[ 1 ] * d.y + sh[ 2 ] * d.z + sh[ 3 ] * d.x )
                        + 1.092548430592079 * ( sh[ 4 ] * d.x * d.y + sh[ 5 ] * d.y * d.z + sh[ 7 ] * d.x * d.z )
                        + sh[ 6 ] * 0.315391565252520 * ( 3.0 * d.z * d.z - 1.0 )
                        + sh[ 8 ] * 0.546274215296040 * ( d.x * d.x - d.y * d.y );
                #endif
                gl_FragColor = vec4( max( c, 0.0 ), 1.0 );
            }`,
    });
}

/** The studio's backdrop over the whole picture, in picture coordinates; as studio_backdrop in render/backdrop.py. */
export function backdropMaterial() {
    return new THREE.ShaderMaterial({
        depthTest: false, depthWrite: false, toneMapped: false,
        uniforms: { aspect: { value: 1 } },
        vertexShader: "varying vec2 at; void main() { at = position.xy; gl_Position = vec4( position.xy, 1.0, 1.0 ); }",
        fragmentShader: `varying vec2 at;
            uniform float aspect;
            void main() {
                vec2 p = vec2( at.x * aspect, at.y + 0.1 );
                float glow = exp( -0.9 * dot( p, p ) );
                vec3 c = mix( vec3( 0.030, 0.031, 0.034 ), vec3( 0.150, 0.154, 0.162 ), glow );
                gl_FragColor = vec4( c, 1.0 );
                #include <colorspace_fragment>
                gl_FragColor.rgb += ( fract( sin( dot( gl_FragCoord.xy, vec2( 12.9898, 78.233 ) ) ) * 43758.5453 ) - 0.5 ) / 255.0;
            }`,
    });
}
