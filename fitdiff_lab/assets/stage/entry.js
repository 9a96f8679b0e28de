export {
  ACESFilmicToneMapping, BufferAttribute, Color, CustomToneMapping, DataTexture, DirectionalLight, Euler, FloatType, LinearFilter,
  LinearMipmapLinearFilter, LoadingManager, MathUtils, Mesh, MeshBasicMaterial, MeshPhysicalMaterial, NoBlending, NormalBlending, NoToneMapping, BackSide, DoubleSide, FrontSide,
  OrthographicCamera, PCFShadowMap, PCFSoftShadowMap, PMREMGenerator, PerspectiveCamera, PlaneGeometry, Quaternion, RGBAFormat, Raycaster,
  RepeatWrapping, ClampToEdgeWrapping, Scene, ShaderChunk, ShaderMaterial, ShadowMaterial, SphereGeometry, Spherical, SRGBColorSpace, LinearSRGBColorSpace, NoColorSpace,
  UniformsLib, UniformsUtils, VSMShadowMap, Vector2, Vector3, WebGLRenderer, AnimationMixer, Object3D, Matrix3, Matrix4, Box3,
} from "three";
export { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
export { HDRLoader } from "three/addons/loaders/HDRLoader.js";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
